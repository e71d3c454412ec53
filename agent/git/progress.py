r"""Reads git's progress from what it says about itself (`git help clone`, `--progress`).

Receiving objects:  42% (420/1000), 1.20 MiB | 3.00 MiB/s\r
remote: Counting objects: 100% (9/9), done.\n
"""

import re
import time
from collections.abc import Callable

from agent import wire
from agent.wire import UNSET, UnsetType

INTERVAL_S = 0.1
"""Between two words about the same phase; git itself speaks more often."""
_LINE = re.compile(
    r"(?:remote: )?(?P<phase>[A-Z][\w -]*):\s+"
    r"(?:(?P<percent>\d+)% \((?P<done>\d+)/(?P<total>\d+)\)|(?P<count>\d+))"
    r"(?:, (?P<size>[\d.]+) (?P<unit>bytes|[KMG]iB))?(?P<end>.*, done\.)?"
)
_UNITS = {"bytes": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


class Progress(wire.Model, frozen=True, kw_only=True):
    """How far a phase has come."""

    phase: str
    """In git's words: `Receiving objects`, `Resolving deltas`, `Updating files`."""
    percent: int | UnsetType = UNSET
    """Absent where git knows no total."""
    done: int
    total: int | UnsetType = UNSET
    received_bytes: int | UnsetType = UNSET


class ProgressReader:
    """Cuts what git says into lines and tells of those that are progress.

    Args:
        tell: Called with each, in the thread that reads.
        now: The clock; seconds.
    """

    def __init__(
        self,
        tell: Callable[[Progress], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell = tell
        self._now = now
        self._rest = b""
        self._told: dict[str, float] = {}

    def feed(self, block: bytes) -> None:
        """Take the next piece."""
        *lines, self._rest = re.split(rb"[\r\n]", self._rest + block)
        # A line that never ends is none of git's progress.
        self._rest = self._rest[-4096:]
        for line in lines:
            found = _LINE.match(line.decode("utf-8", "replace"))
            if found is not None:
                self._maybe_tell(found)

    def _maybe_tell(self, found: re.Match[str]) -> None:
        phase, now = found["phase"], self._now()
        is_last = found["end"] is not None or found["percent"] == "100"
        last = self._told.get(phase)
        if last is not None and now - last < INTERVAL_S and not is_last:
            return
        self._told[phase] = now
        size = found["size"]
        self._tell(
            Progress(
                phase=phase,
                percent=int(found["percent"]) if found["percent"] else UNSET,
                done=int(found["done"] or found["count"]),
                total=int(found["total"]) if found["total"] else UNSET,
                received_bytes=(
                    round(float(size) * _UNITS[found["unit"]]) if size else UNSET
                ),
            )
        )
