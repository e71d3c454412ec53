"""The keeper's event loop: descriptors, timers, and what is to be done next.

`select.epoll` itself rather than `selectors` on top of it: registering and waiting are
part of every command's cost, and the agent runs on Linux only. Readiness is level
triggered. A descriptor that one handler closes may be another's by the time its event is
delivered, and a named pipe that nobody has opened for writing yet would read as one that
all writers have closed: what was registered in a turn hears of the next turn's events.
"""

import heapq
import select
import time
from collections import deque
from collections.abc import Callable

from agent.keeper.log import say

READ = select.EPOLLIN
WRITE = select.EPOLLOUT

Handler = Callable[[int], None]
"""Called with the event mask."""

EVENTS_PER_TURN = 64
"""Taken from the kernel at a time; the kernel goes round among the rest."""

CROWDED_TIMERS = 256
"""With so many, the cancelled ones are thrown out."""


class Timer:
    """One call in the future, which may be cancelled."""

    __slots__ = ("action", "at")

    def __init__(self, at: float, action: Callable[[], None]) -> None:
        self.at = at
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Make it never run; does nothing when it has."""
        self.action = None

    def __lt__(self, other: "Timer") -> bool:
        return self.at < other.at


class Loop:
    """Waits for descriptors and times, and calls what was registered for them."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._fresh: set[int] = set()
        self._timers: list[Timer] = []
        self._next: deque[Callable[[], None]] = deque()
        self._crowded = CROWDED_TIMERS
        self._running = True
        self.ready = 1
        """Descriptors with something to do in this turn; none should keep the others waiting."""

    def add(self, fd: int, events: int, handler: Handler) -> None:
        """Call `handler` whenever `fd` is ready for `events`, hung up, or in error."""
        self._poll.register(fd, events)
        self._handlers[fd] = handler
        self._fresh.add(fd)

    def change(self, fd: int, events: int) -> None:
        """Wait for other events on a descriptor that was added."""
        self._poll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Forget a descriptor; to be called before it is closed."""
        if self._handlers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def later(self, delay_s: float, action: Callable[[], None]) -> Timer:
        """Call `action` once, after `delay_s` of monotonic time."""
        timer = Timer(time.monotonic() + delay_s, action)
        if len(self._timers) >= self._crowded:
            # Most timers are limits that are cancelled long before they are due.
            self._timers = [each for each in self._timers if each.action is not None]
            heapq.heapify(self._timers)
            self._crowded = max(CROWDED_TIMERS, 2 * len(self._timers))
        heapq.heappush(self._timers, timer)
        return timer

    def soon(self, action: Callable[[], None]) -> None:
        """Call `action` once the events at hand have been dealt with."""
        self._next.append(action)

    def stop(self) -> None:
        """Make `run` return at the end of this turn."""
        self._running = False

    def run(self) -> None:
        """Turn until stopped."""
        while self._running:
            self.turn()

    def turn(self) -> None:
        """Wait for something to do, and do it."""
        found = self._poll.poll(self._wait_s(), EVENTS_PER_TURN)
        self.ready = max(1, len(found))
        self._fresh.clear()
        for fd, events in found:
            handler = self._handlers.get(fd)
            if handler is not None and fd not in self._fresh:
                self._guard_handler(fd, handler, events)
        now = time.monotonic()
        while self._timers and self._timers[0].at <= now:
            action = heapq.heappop(self._timers).action
            if action is not None:
                _guard(action)
        # Only what is there now: an action may ask for its own next turn.
        for _ in range(len(self._next)):
            _guard(self._next.popleft())

    def close(self) -> None:
        """Close the kernel's side."""
        self._poll.close()

    def descriptors(self) -> int:
        """Return how many descriptors are waited for."""
        return len(self._handlers)

    def _wait_s(self) -> float:
        while self._timers and self._timers[0].action is None:
            heapq.heappop(self._timers)
        if self._next:
            return 0
        if not self._timers:
            return -1
        return max(0.0, self._timers[0].at - time.monotonic())

    def _guard_handler(self, fd: int, handler: Handler, events: int) -> None:
        try:
            handler(events)
        except Exception:  # noqa: BLE001 - one job's trouble must not be the keeper's end
            _tell("event handler")
            # Left registered it would fail again at once, and for ever.
            if self._handlers.get(fd) is handler:
                self.remove(fd)


def _guard(action: Callable[[], None]) -> None:
    try:
        action()
    except Exception:  # noqa: BLE001 - as above
        _tell("action")


def _tell(what: str) -> None:
    import traceback  # noqa: PLC0415 - never needed, if all is well

    say("error", f"{what} failed: {traceback.format_exc()}")
