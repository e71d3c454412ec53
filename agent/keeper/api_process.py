"""The api process: started, watched, and started again for as long as the agent lives.

Every start is a generation. A new one gets a new line and the same listening sockets, so
what clients ask meanwhile waits in the backlog. What the one before had started by itself
carries its tag, and is ended when it dies.
"""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence

from agent.keeper.accounts import signal_name
from agent.keeper.desk import Desk, House
from agent.keeper.early import EarlyApi, owner_tag, spawn_api
from agent.keeper.frames import Header
from agent.keeper.hardening import Standing
from agent.keeper.ladder import Ladder, Scope
from agent.keeper.link import Link
from agent.keeper.log import say
from agent.keeper.loop import Loop, Timer

FIRST_PAUSE_S = 0.05
"""Before the second start of an api that never got ready; doubled from then on."""

LONGEST_PAUSE_S = 1.0

LEAVE_S = 1.0
"""What an api has to end by itself once its line is closed."""

START_S = 30.0
"""What an api has to get ready before the watchdog takes it for hung."""


class ApiProcess:
    """The api of now.

    Args:
        house: The keeper.
        standing: What the api has besides the keeper's own limits.
        argv: The api's command line.
        environment: What the api sees of the keeper's environment.
        listeners: The sockets it serves; they are handed over the line.
        hello: The first frame of a generation, with its payload.

    Attributes:
        early: The first generation, when it was started before the keeper.
    """

    def __init__(
        self,
        house: House,
        standing: Standing,
        argv: list[str],
        environment: dict[bytes, bytes],
        listeners: Sequence[socket.socket],
        hello: Callable[[int], tuple[Header, bytes]],
    ) -> None:
        self._house = house
        self._loop: Loop = house.loop
        self._standing = standing
        self._argv = argv
        self._environment = environment
        self._listeners = listeners
        self._hello = hello
        self.early: EarlyApi | None = None
        self._link: Link | None = None
        self._desk: Desk | None = None
        self._kill: Timer | None = None
        self._pause_s = 0.0
        self._is_ready = False
        self._began = 0.0
        self._why = ""
        self._pinged = 0.0
        self.pid = 0
        self.generation = 0
        self.on_ready: Callable[[], None] = _nothing
        self.on_drained: Callable[[], None] = _nothing
        self.on_exit: Callable[[], None] | None = None

    def start(self) -> None:
        """Start the next generation."""
        if self.on_exit is not None:
            return
        self.generation += 1
        self._is_ready = False
        try:
            line = self._take_early() or self._spawn()
        except OSError as error:
            say("error", f"the api cannot be started: {error}")
            self._again()
            return
        self._began, self._why = time.monotonic(), ""
        self._tell("started", {"pid": self.pid})
        fds = [each.fileno() for each in self._listeners]
        with contextlib.suppress(OSError):
            # A message of its own, before the first frame; one that died shows as such.
            socket.send_fds(line, [b"\0"], fds)
        desk = Desk(self._house, self._ready, self._drained)
        self._desk = desk
        self._link = Link(self._loop, line, desk.handle, self._line_closed, desk.room)
        desk.open(self._link)
        self._link.send(*self._hello(self.generation))

    def _take_early(self) -> socket.socket | None:
        """Make the api that was started early the one of now, and return its line."""
        early, self.early = self.early, None
        if early is None:
            return None
        self.pid = early.pid
        self._standing.give(early.pid)
        return early.line

    def _spawn(self) -> socket.socket:
        """Start a process and return the line to it."""
        ours, theirs = socket.socketpair()
        environment = {
            **self._environment,
            b"TOOLBOX_OWNER": owner_tag(self.generation),
        }
        try:
            with theirs:
                self.pid = spawn_api(self._argv, environment, theirs.fileno())
        except OSError:
            ours.close()
            raise
        return ours

    def say(self, event: str) -> bool:
        """Send the api an event; return False when there is no api to send it to."""
        if self._link is None or not self._link.open or not self.pid:
            return False
        self._link.send({"ev": event})
        return self._link.open

    def signal(self, number: int) -> None:
        """Signal the api; it was not reaped yet, so it is nobody else."""
        if self.pid:
            os.kill(self.pid, number)

    def reaped(self, pid: int, status: int) -> bool:
        """Take note of its end; return False when it is not the api that ended."""
        if pid != self.pid:
            return False
        self.pid = 0
        code = os.waitstatus_to_exitcode(status)
        self._close_line()
        if self._kill is not None:
            self._kill.cancel()
            self._kill = None
        self._tell_end(pid, code)
        if self.on_exit is not None:
            self.on_exit()
            return True
        say("warning", "the api ended", code=code, generation=self.generation)
        self._end_children(self.generation)
        self._again()
        return True

    def check(self, interval_s: float) -> None:
        """Ask whether the api lives, and kill it when it has not for an interval."""
        if not self.pid or self._desk is None:
            return
        limit_s = interval_s if self._is_ready else max(interval_s, START_S)
        silent_s = time.monotonic() - self._desk.answered
        if silent_s > limit_s:
            say("error", "the api does not answer", silent_s=round(silent_s, 1))
            self._why = "does-not-answer"
            self.signal(signal.SIGKILL)
        self.say("ping")

    def spared(self) -> set[int]:
        """Return what is not to be ended together with jobs."""
        return {self.pid} if self.pid else set()

    def _again(self) -> None:
        if self._pause_s:
            self._loop.later(self._pause_s, self.start)
        else:
            self._loop.soon(self.start)
        self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2 or FIRST_PAUSE_S)

    def _ready(self) -> None:
        self._is_ready = True
        self._pause_s = 0.0
        self._tell("ready", {"afterMs": self._age_ms()})
        self.on_ready()

    def _drained(self) -> None:
        self.on_drained()

    def _close_line(self) -> None:
        if self._link is not None:
            self._link.close()
        if self._desk is not None:
            self._desk.close()

    def _line_closed(self) -> None:
        """Give an api without a line a moment to end, and then none."""
        self._close_line()
        if self.pid and self._kill is None:
            self._kill = self._loop.later(LEAVE_S, self._leave)

    def _leave(self) -> None:
        self._kill = None
        self._why = "closed-its-line"
        self.signal(signal.SIGKILL)

    def _age_ms(self) -> float:
        return round((time.monotonic() - self._began) * 1000, 3)

    def _tell(self, what: str, facts: Header) -> None:
        told: Header = {"generation": self.generation}
        self._house.events.tell(f"api.{what}", {**told, **facts})

    def _tell_end(self, pid: int, code: int) -> None:
        facts: Header = {"pid": pid, "durationMs": self._age_ms()}
        if code < 0:
            facts["signal"] = signal_name(-code)
        else:
            facts["exitCode"] = code
        if self.on_exit is not None:
            self._why = "agent-stopping"
        facts["reason"] = self._why or ("signalled" if code < 0 else "exited")
        self._tell("ended", facts)

    def _end_children(self, generation: int) -> None:
        """End what an api that died had started itself."""

        def spared() -> set[int]:
            return self._house.jobs.leaders() | self.spared()

        scope = Scope(0, owner_tag(generation), spared)
        ladder = Ladder(self._loop, scope)
        ladder.start(self._house.grace_s)


def _nothing() -> None:
    """Do nothing."""
