"""The keeper itself: what it owns, and what happens when a signal arrives."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Sequence

from agent.keeper.accounts import Accounts
from agent.keeper.api_process import ApiProcess
from agent.keeper.early import EarlyApi, base_environment
from agent.keeper.errors import Refusal
from agent.keeper.events import Events
from agent.keeper.frames import Header
from agent.keeper.job import Job
from agent.keeper.jobs import Jobs
from agent.keeper.log import say
from agent.keeper.loop import READ, Loop
from agent.keeper.notify import Notifier
from agent.keeper.options import Options
from agent.keeper.segments import Segments
from agent.keeper.sessions import Sessions
from agent.keeper.spawn import Spawner
from agent.keeper.state import State
from agent.keeper.stop import Stop
from agent.keeper.store import Store

ENTRYPOINT = "entrypoint"
"""The job id of the image's own command."""

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
PASSED_ON = (signal.SIGUSR1, signal.SIGUSR2)
"""Mean nothing to the agent, so they are the entrypoint's."""


class Core:
    """One keeper.

    Args:
        options: What the keeper itself needs of the agent's options.
        api_argv: The api's command line.
        state: The state directory, checked already.
        listeners: The sockets of the api, bound already.
        notifier: The way to the service manager.
        early: The first api, when it was started already.
    """

    def __init__(
        self,
        options: Options,
        api_argv: list[str],
        state: State,
        listeners: Sequence[socket.socket],
        notifier: Notifier,
        early: EarlyApi | None,
    ) -> None:
        self._options = options
        self._notifier = notifier
        self._began = time.monotonic()
        self._orphans = 0
        self._life = os.urandom(8).hex()
        self._was_ready = False
        self.grace_s = options.grace_s
        self.loop = Loop()
        self.store = Store()
        spawner = Spawner()
        spawner.standing.take()
        directory = os.path.join(state.path, "events")
        self.events = Events(
            self.loop, Segments(state, directory, options.events_max_bytes)
        )
        self.jobs = Jobs(
            self.loop,
            state,
            spawner,
            options.work_dir,
            options.max_commands,
            Accounts(self.events),
        )
        self.sessions = Sessions(self.loop, state, self.jobs)
        environment = base_environment(dict(os.environb))
        self.jobs.environment = environment
        self.api = ApiProcess(
            self,
            spawner.standing,
            api_argv,
            environment,
            listeners,
            self._hello,
        )
        self.api.early = early
        self.jobs.others = self.api.spared
        self.api.on_ready = self._api_ready
        self._stop = Stop(self.loop, self.jobs, self.api, options.grace_s)
        self._wakeup, self._wakeup_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def run(self) -> int:
        """Start the api and serve it until told to stop; return the exit code."""
        self._listen_to_signals()
        self.events.tell("agent.started", {"pid": os.getpid()})
        self.loop.soon(self.api.start)
        # While the api comes up there is time to look at the events of earlier keepers.
        self.loop.soon(self.events.flush)
        # An early api may have died before anybody listened to its signal.
        self.loop.soon(self._reap)
        if self._notifier.watchdog_s:
            self._tick()
        self.loop.run()
        self._reap()
        self.jobs.close()
        self.events.close()
        self.loop.close()
        return 0

    def statistics(self) -> Header:
        """Return the numbers of `stats`."""
        return {
            **self.jobs.counts(),
            "orphans_reaped": self._orphans,
            "api_restarts": self.api.generation - 1,
            "generation": self.api.generation,
            "uptime_s": time.monotonic() - self._began,
            "fds": len(os.listdir("/proc/self/fd")) - 1,
            "watched_fds": self.loop.descriptors(),
            "pid": os.getpid(),
        }

    # -- signals ------------------------------------------------------------------

    def _listen_to_signals(self) -> None:
        """Have every signal arrive as a byte that the loop waits for."""
        self.loop.add(self._wakeup, READ, self._signalled)
        signal.set_wakeup_fd(self._wakeup_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        for number in (signal.SIGCHLD, *STOPPING, *PASSED_ON):
            # What nohup has had ignored stays ignored.
            if (
                number != signal.SIGHUP
                or signal.getsignal(number) is not signal.SIG_IGN
            ):
                signal.signal(number, _heard)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)

    def _signalled(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            numbers = os.read(self._wakeup, 4096)
            for number in set(numbers) & set(STOPPING):
                self._asked_to_stop(number)
            for number in set(numbers) & set(PASSED_ON):
                self._pass_on(number)
        # A full pipe loses bytes, never the children: whoever ended is still there.
        self._reap()

    def _asked_to_stop(self, number: int) -> None:
        if self._stop.begun:
            self._stop.at_once()
            return
        say("info", "stopping", signal=number)
        self.events.tell("agent.stopping", {"signal": signal.Signals(number).name})
        # Before the api is told, which then ends the streams.
        self.events.flush()
        self._notifier.tell("STOPPING=1", "STATUS=stopping")
        self._stop.begin()

    def _pass_on(self, number: int) -> None:
        with contextlib.suppress(Refusal):
            self.jobs.get(ENTRYPOINT).signal(number, group=False)

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            told = (usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024)
            if not self.jobs.reaped(pid, status, told):
                self._orphans += not self.api.reaped(pid, status)

    # -- the api ------------------------------------------------------------------

    def _hello(self, generation: int) -> tuple[Header, bytes]:
        facts: Header = {
            "ev": "hello",
            "generation": generation,
            "work_dir": self._options.work_dir,
            "life": self._life,
            "keeper_pid": os.getpid(),
        }
        return facts, self._options.settings

    def _api_ready(self) -> None:
        self._notifier.tell("READY=1", "STATUS=serving")
        if not self._was_ready:
            self._was_ready = True
            if self._options.entrypoint:
                self._start_entrypoint()

    def _start_entrypoint(self) -> None:
        header: Header = {
            "job": ENTRYPOINT,
            "kind": ENTRYPOINT,
            "argv": list(self._options.entrypoint),
            "output": "split",
            "kept": True,
            "max_bytes": self._options.command_log_max_bytes,
        }
        try:
            job: Job = self.jobs.spawn(header, b"")
        except Refusal as refusal:
            say("error", f"entrypoint: {refusal.message}")
        else:
            say("info", "entrypoint started", pid=job.pid)

    def _tick(self) -> None:
        """Tell the service manager that the loop turns, and look after the api."""
        interval_s = self._notifier.watchdog_s
        self._notifier.tell("WATCHDOG=1")
        if not self._stop.begun:
            self.api.check(interval_s)
        self.loop.later(interval_s / 3, self._tick)


def _heard(_number: int, _frame: object) -> None:
    """Do nothing: the signal's byte is in the wakeup pipe."""
