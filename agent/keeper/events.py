"""The timeline: what happened in the sandbox, in one order, with numbers that only grow.

The keeper keeps it, because it sees most of what happens itself, and what the api tells
it comes over one line: so there is one order. Telling costs a few microseconds and cannot
fail. What was told gets its number, is encoded and stored a little later, many at a time;
at the end of this turn of the loop if the api listens.

When nothing can be stored (a full disk), events wait in memory, up to a bound, and are
stored when that is possible again; what fell off is told by an event, `events.lost`.
"""

import math
import time
from collections import deque
from collections.abc import Callable

from agent.keeper.errors import Refusal
from agent.keeper.frames import Header, Json, dump
from agent.keeper.log import say
from agent.keeper.loop import Loop, Timer
from agent.keeper.segments import BLOCK_BYTES, Block, Place, Segments

FLUSH_S = 0.25
"""Until what was told is stored while nobody listens: a short command's start and end,
and those of its neighbours, go in one write."""

TOLD_MAX = 1024
"""Events that wait for their numbers; with so many, it is done at once."""

WAITING_MAX_BYTES = 256 * 1024
"""Events that cannot be stored; some thousand."""

EVENT_MAX_BYTES = 8 * 1024
"""One event; of a larger one only the type is told."""

TYPE_MAX_CHARS = 64

Listener = Callable[[int, int, bytes], None]
"""Called with the first and the last number of some lines, and the lines."""


class Events:
    """The timeline of one keeper.

    Args:
        loop: The keeper's loop.
        segments: Where events are stored, not opened yet.
        clock: Wall time in Unix seconds.
    """

    def __init__(
        self, loop: Loop, segments: Segments, clock: Callable[[], float] = time.time
    ) -> None:
        self._loop = loop
        self._segments = segments
        self._clock = clock
        self._is_open = False
        self._told: list[tuple[float, str, Header]] = []
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._waiting_bytes = 0
        self._lost = (0, 0)
        self._lost_count = 0
        self._fails = False
        self._timer: Timer | None = None
        self._is_due = False
        self._listener: Listener | None = None
        self._second = -1
        self._stamp = ""
        self._newest = 0

    def tell(self, kind: str, facts: Header) -> None:
        """Take note of what has just happened; never fails, and waits for nothing.

        Args:
            kind: Its type, in dotted words.
            facts: Scalars and lists of strings, under the names that they have on the
                wire. The dictionary becomes the timeline's.
        """
        self._told.append((self._clock(), kind, facts))
        if self._listener is not None or len(self._told) >= TOLD_MAX:
            if not self._is_due:
                self._is_due = True
                self._loop.soon(self.flush)
        elif self._timer is None:
            self._timer = self._loop.later(FLUSH_S, self.flush)

    def follow(self, listener: Listener | None) -> int:
        """Tell a listener of what happens from now on; return the newest number so far.

        There is one at most: the api. None takes it back.
        """
        self.flush()
        self._listener = listener
        return self._newest

    @property
    def newest(self) -> int:
        """The number of the last event that has one."""
        return self._newest

    @property
    def oldest(self) -> int:
        """The number of the oldest event that can still be read, or of the next one."""
        stored = self._segments.oldest
        if stored:
            return stored
        return self._waiting[0][0] if self._waiting else self._newest + 1

    def read(self, since: int, place: Place | None) -> Block:
        """Return events after a number, or the next of them, as `Segments.read`."""
        self.flush()
        block = self._segments.read(since, place)
        if block.content or block.more or not self._waiting:
            return block
        waiting = [line for number, line in self._waiting if number > since]
        return Block(b"".join(waiting), block.place, more=False)

    def close(self) -> None:
        """Store what can be stored, and close the files."""
        self._listener = None
        self.flush()
        self._segments.close()

    # -- numbers, and storing -----------------------------------------------------

    def flush(self) -> None:
        """Number, pass on and store what was told."""
        self._is_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._open()
        if self._told:
            self._number()
        if self._waiting:
            self._store()

    def _open(self) -> None:
        if self._is_open:
            return
        self._is_open = True
        try:
            self._newest = self._segments.open()
        except OSError as error:
            say("warning", f"events of earlier agents cannot be read: {error}")

    def _number(self) -> None:
        told, self._told = self._told, []
        first = self._newest + 1
        lines: list[bytes] = []
        for number, (at, kind, facts) in enumerate(told, first):
            line = self._encode(number, at, kind, facts)
            lines.append(line)
            self._waiting.append((number, line))
            self._waiting_bytes += len(line)
        self._newest = first + len(lines) - 1
        if self._listener is not None:
            self._listener(first, self._newest, b"".join(lines))

    def _encode(self, number: int, at: float, kind: str, facts: Header) -> bytes:
        whole_ms = int(at * 1000)
        second, ms = divmod(whole_ms, 1000)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        head: Header = {
            "id": number,
            "time": f"{self._stamp}.{ms:03d}Z",
            "unixMs": whole_ms,
            "type": kind,
        }
        line = dump({**head, **facts})
        if b"\\ud" in line:
            line = dump(
                {**head, **{key: _readable(each) for key, each in facts.items()}}
            )
        if len(line) > EVENT_MAX_BYTES:
            line = dump({**head, "cut": True})
        return line + b"\n"

    def _store(self) -> None:
        while self._waiting:
            first = self._waiting[0][0]
            batch: list[bytes] = []
            size = 0
            for _, line in self._waiting:
                if batch and size + len(line) > BLOCK_BYTES:
                    break
                batch.append(line)
                size += len(line)
            try:
                self._segments.append(first, b"".join(batch))
            except OSError as error:
                self._failed(error)
                return
            for _ in batch:
                self._waiting.popleft()
            self._waiting_bytes -= size
        if self._fails:
            self._fails = False
            say("info", "events are stored again", lost=self._lost_count)
        if self._lost_count:
            (first, last), count = self._lost, self._lost_count
            self._lost_count = 0
            self.tell("events.lost", {"first": first, "last": last, "count": count})

    def _failed(self, error: OSError) -> None:
        if not self._fails:
            self._fails = True
            say("warning", f"events cannot be stored: {error}")
        while self._waiting_bytes > WAITING_MAX_BYTES:
            number, line = self._waiting.popleft()
            self._waiting_bytes -= len(line)
            first = self._lost[0] if self._lost_count else number
            self._lost = (first, number)
            self._lost_count += 1


def checked(kind: str, facts: Json) -> Header:
    """Return what the api tells of an event, if it is as agreed.

    Raises:
        Refusal: It is not.
    """
    if not 0 < len(kind) <= TYPE_MAX_CHARS or not kind.isascii():
        raise Refusal("invalid", f"not an event's type: {kind!r}")
    if not isinstance(facts, dict):
        raise Refusal("invalid", "facts must be an object")
    for name, value in facts.items():
        # No objects in objects: a line is recognised by how it begins.
        if not _is_plain(value):
            raise Refusal("invalid", f"{name}: a scalar, or a list of strings")
    return {name: value for name, value in facts.items() if name not in RESERVED}


RESERVED = frozenset({"id", "time", "unixMs", "type"})


def _is_plain(value: Json) -> bool:
    if isinstance(value, list):
        return all(isinstance(each, str) for each in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, bool | int | str)


def _readable(value: Json) -> Json:
    """Return a value without lone surrogates, which not every reader of JSON takes."""
    if isinstance(value, list):
        return [_readable(each) for each in value]
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value
