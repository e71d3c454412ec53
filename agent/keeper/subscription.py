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
from agent.keeper.logs import Ring, Spool
from agent.keeper.loop import Loop

PIECE_BYTES = 256 * 1024
"""Sent at a time to one follower, before the next one has its turn."""

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
        self, feeder: "Feeder", number: int, job: Job, offset: int, credit: int
    ) -> None:
        assert not isinstance(job.output, Spool)  # noqa: S101 - the caller looked
        self._feeder = feeder
        self._job = job
        self._output = job.output
        self._record = 0
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
            runs, content, self._record = self._output.read(
                self.offset, self._record, size
            )
        except OSError as error:
            self._end(f"unreadable: {error}")
            return 0
        if not runs:
            return 0
        line.send(
            {
                "ev": "data",
                "sub": self.number,
                "runs": [[run.offset, run.stream, run.time, run.size] for run in runs],
            },
            content,
        )
        self.credit -= len(content)
        self.offset = runs[-1].offset + runs[-1].size
        self._job.reader_moved()
        self.poke()
        return len(content)

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

    def add(self, number: int, job: Job, offset: int, credit: int) -> Subscription:
        """Begin to send a job's output from `offset` on.

        Raises:
            OSError: Its log cannot be read.
        """
        subscription = Subscription(self, number, job, offset, credit)
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
