"""How often a server ended of itself lately, and how long it is left alone for that."""

import time
from collections import deque

CRASHES_MAX = 3
CRASH_WINDOW_S = 60.0
"""After more crashes than that in so long, only `start` tries again."""
PAUSES_S = (0.0, 0.25, 1.0, 2.0)
"""Before a restart, by how many crashes there were lately."""


class Crashes:
    """The crashes of one server."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=CRASHES_MAX + 1)

    def note(self) -> None:
        """Count one more."""
        self._times.append(time.monotonic())

    def forget(self) -> None:
        """Begin anew."""
        self._times.clear()

    @property
    def recent(self) -> int:
        """How many there were lately."""
        since = time.monotonic() - CRASH_WINDOW_S
        return sum(1 for each in self._times if each > since)

    @property
    def are_too_many(self) -> bool:
        """It is not to be restarted by itself."""
        return self.recent > CRASHES_MAX

    @property
    def pause_s(self) -> float:
        """How long to wait before the next try."""
        return PAUSES_S[min(self.recent, len(PAUSES_S) - 1)]
