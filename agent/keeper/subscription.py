"""Followers of a job's output, each at its own pace.

A follower reads the stored output from its offset on, never the pump's bytes: so a slow
one costs neither memory nor anybody's time. It may have `credit` bytes under way; its
reader gives back what it has dealt with. All followers of an api share one line, and take
turns on it.
"""

from collections import deque
from typing import Protocol

from agent.keeper.frames import Header
from agent.keeper.job import Job
from agent.keeper.logs import Log, Ring, Run, Spool
from agent.keeper.loop import Loop

PIECE_BYTES = 256 * 1024
"""Sent at a time to one follower, before the next one has its turn."""

TOLD_BYTES = 64 * 1024
"""From so much on a follower that reads for itself is told where it is."""

TURN_BYTES = 1024 * 1024
"""Sent to all of them per turn of the loop."""


class Line(Protocol):
    """The way to the api."""

    def send(self, header: Header, payload: bytes | memoryview = b"") -> None:
        """Send a frame."""

    @property
    def crowded(self) -> bool:
        """Whether the api does not take up what it is sent."""


class Subscription:
    """One follower of one job."""

    def __init__(
        self,
        feeder: "Feeder",
        number: int,
        job: Job,
        offset: int,
        credit: int,
        *,
        reads: bool,
    ) -> None:
        assert not isinstance(job.output, Spool)  # noqa: S101 - the caller looked
        self._feeder = feeder
        self._job = job
        self._output = job.output
        self._record = 0
        self._reads = reads
        self._has_place = False
        self.number = number
        self.offset = offset
        self.credit = credit
        self.over = False
        self.queued = False
        self._output.hold()
        if offset < self._output.size:
            try:
                self._record = self._output.locate(offset)
            except OSError:
                self._output.release()
                raise
        job.readers.append(self)

    def poke(self) -> None:
        """Hear that there may be something to send."""
        if not self.queued and not self.over:
            self._feeder.queue(self)

    def drop(self, why: str) -> None:
        """End it before the job has."""
        self._end(why)

    def lose(self) -> None:
        """Stop because its api is gone, which counts as having shown what it was sent."""
        if isinstance(self._output, Ring):
            self._output.saw(self.offset)
        self.close()

    def close(self) -> None:
        """Stop without a word; the reader has left."""
        if not self.over:
            self.over = True
            self._job.readers.remove(self)
            self._output.release()
            self._feeder.gone(self)
            self._job.reader_moved()

    def step(self, line: Line) -> int:
        """Send the next piece; return its size."""
        size = min(self.credit, PIECE_BYTES)
        if size > 0 and self.offset < self._output.size:
            return self._send(line, size)
        if self.offset >= self._output.size and self._job.closed:
            self._end("finished")
        return 0

    def _send(self, line: Line, size: int) -> int:
        try:
            sent = self._tell(line, size) or self._pass_on(line, size)
        except OSError as error:
            self._end(f"unreadable: {error}")
            return 0
        if not sent:
            return 0
        self.credit -= sent
        self.offset += sent
        self._job.reader_moved()
        self.poke()
        return sent

    def _pass_on(self, line: Line, size: int) -> int:
        """Send bytes."""
        runs, content, self._record = self._output.read(self.offset, self._record, size)
        if runs:
            line.send(self._header(runs), content)
        return len(content)

    def _tell(self, line: Line, size: int) -> int:
        """Tell where bytes are, when that is less work than to send them.

        Each byte would be copied four times on its way through the line; the api is as
        much at home on this disk.
        """
        output = self._output
        waiting = min(size, output.size - self.offset)
        if not self._reads or waiting < TOLD_BYTES or not isinstance(output, Log):
            return 0
        place = output.place()
        if place is None:
            return 0
        runs, self._record = output.find(self.offset, self._record, size)
        header = self._header(runs)
        header["stored"] = True
        if not self._has_place:
            header["place"] = list(place)
            self._has_place = True
        line.send(header)
        return sum(run.size for run in runs)

    def _header(self, runs: list[Run]) -> Header:
        return {
            "ev": "data",
            "sub": self.number,
            "runs": [[run.offset, run.stream, run.time, run.size] for run in runs],
        }

    def _end(self, why: str) -> None:
        if self.over:
            return
        self._feeder.line.send(
            {
                "ev": "end",
                "sub": self.number,
                "reason": why,
                "offset": self.offset,
                "dropped_bytes": self._output.dropped,
            }
        )
        self.close()


class Feeder:
    """The followers of one api.

    Args:
        loop: The keeper's loop.
        line: The way to the api.
    """

    def __init__(self, loop: Loop, line: Line) -> None:
        self._loop = loop
        self._ready: deque[Subscription] = deque()
        self._scheduled = False
        self.line = line
        self.all: dict[int, Subscription] = {}

    def add(
        self, number: int, job: Job, offset: int, credit: int, *, reads: bool = False
    ) -> Subscription:
        """Begin to send a job's output from `offset` on.

        Args:
            number: The follower's.
            job: Whose output.
            offset: Where to begin.
            credit: What may be under way.
            reads: The follower reads for itself what it is told the place of.

        Raises:
            OSError: Its log cannot be read.
        """
        subscription = Subscription(self, number, job, offset, credit, reads=reads)
        self.all[number] = subscription
        subscription.poke()
        return subscription

    def grant(self, number: int, size: int) -> None:
        """Allow a follower `size` more bytes under way; it may have ended meanwhile."""
        subscription = self.all.get(number)
        if subscription is not None:
            subscription.credit += size
            subscription.poke()

    def remove(self, number: int) -> None:
        """End a follower whose reader has left."""
        subscription = self.all.get(number)
        if subscription is not None:
            subscription.close()

    def gone(self, subscription: Subscription) -> None:
        """Forget a follower that is over."""
        self.all.pop(subscription.number, None)

    def close(self) -> None:
        """End all of them: the api is gone."""
        for subscription in list(self.all.values()):
            subscription.lose()

    def queue(self, subscription: Subscription) -> None:
        """Give a follower a turn."""
        subscription.queued = True
        self._ready.append(subscription)
        self.wake()

    def wake(self) -> None:
        """Go on, soon, if the line has room."""
        if self._ready and not self._scheduled and not self.line.crowded:
            self._scheduled = True
            self._loop.soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        sent = 0
        while self._ready and sent < TURN_BYTES and not self.line.crowded:
            subscription = self._ready.popleft()
            subscription.queued = False
            if not subscription.over:
                sent += subscription.step(self.line)
        self.wake()
