"""Stopping: drain, ask, kill, leave; no step waits longer than it says.

drain (≤ 2 s): the api closes what is open and answers what is under way
ask (≤ grace): TERM to all that descends from the keeper, the api's own apart
kill: what is left of it
leave (≤ 0.5 s): the api ends; then whatever is left at all is killed
"""

import signal

from agent.keeper.api_process import ApiProcess
from agent.keeper.jobs import Jobs
from agent.keeper.ladder import Ladder, Scope
from agent.keeper.loop import Loop, Timer

DRAIN_S = 2.0
GRACE_MAX_S = 5.0
LEAVE_S = 0.5
SWEEP_S = 0.4
"""For the last killing; together with the others less than 8 s (contract 70, 6)."""


class Stop:
    """The way down; begun at most once.

    Args:
        loop: The keeper's loop.
        jobs: They end.
        api: It ends last.
        grace_s: Between asking and killing.
    """

    def __init__(self, loop: Loop, jobs: Jobs, api: ApiProcess, grace_s: float) -> None:
        self._loop = loop
        self._jobs = jobs
        self._api = api
        self._grace_s = min(grace_s, GRACE_MAX_S)
        self._timer: Timer | None = None
        self.begun = False

    def begin(self) -> None:
        """Stop in order."""
        self.begun = True
        self._api.on_exit = self._api_ended
        self._api.on_drained = self._ask
        if self._api.say("drain"):
            self._timer = self._loop.later(DRAIN_S, self._ask)
        else:
            self._ask()

    def at_once(self) -> None:
        """Kill everything and leave."""
        self.begun = True
        self._api.on_exit = self._sweep
        self._sweep()

    def _api_ended(self) -> None:
        """Go on without an api: what it would have said, nobody says."""
        self._loop.soon(self._ask)

    def _ask(self) -> None:
        if self._jobs.closing:
            return
        self._jobs.closing = True
        self._cancel()
        self._api.on_exit = _nothing
        scope = Scope(0, b"", self._api.spared, everything=True)
        ladder = Ladder(self._loop, scope)
        for job in self._jobs.all():
            if job.state == "running" and job.terms.mode == "pty":
                job.signal(signal.SIGHUP, group=True)
        ladder.when_done(lambda _left: self._leave())
        ladder.start(self._grace_s)
        # What cannot be killed must not keep the agent from leaving.
        self._timer = self._loop.later(self._grace_s + SWEEP_S, self._leave)

    def _leave(self) -> None:
        self._cancel()
        if not self._api.pid:
            self._sweep()
            return
        self._api.on_exit = self._sweep
        self._api.say("exit")
        self._timer = self._loop.later(LEAVE_S, self._sweep)

    def _sweep(self) -> None:
        self._cancel()
        self._api.on_exit = _nothing
        scope = Scope(0, b"", set, everything=True)
        ladder = Ladder(self._loop, scope)
        ladder.when_done(lambda _left: self._loop.stop())
        ladder.start(0)
        self._loop.later(SWEEP_S, self._loop.stop)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _nothing() -> None:
    """Do nothing."""
