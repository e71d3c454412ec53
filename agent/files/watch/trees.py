"""One watched tree: the program that watches it, its ring, and who listens."""

import asyncio
import errno
import logging
import sys
from collections.abc import Callable
from typing import Literal

import msgspec

from agent.errors import AgentError, StorageFullError, UnavailableError
from agent.files.watch.ring import Ring
from agent.keeper.client import Keeper, Spec
from agent.keeper.early import interpreter_flags

log = logging.getLogger("agent.files")

KIND = "watcher"
"""What the keeper calls the programs."""
START_LIMIT_S = 30.0
"""For walking the tree; a link to the root directory makes that long."""
INSTANCES = (
    "the system's limit on watchers is reached; raise fs.inotify.max_user_instances"
)
WATCHES = (
    "the system's limit on watched directories is reached: watch a smaller tree, or"
    " raise fs.inotify.max_user_watches"
)


class Line(msgspec.Struct):
    """What the program says."""

    ready: bool = False
    gone: bool = False
    overflow: bool = False
    error: tuple[int, str] | None = None
    time: float = 0.0
    events: list[
        tuple[Literal["created", "modified", "deleted", "moved"], str, str]
    ] = []


class Tree:
    """A watched directory.

    Args:
        keeper: Starts and ends the program.
        root: The directory's absolute path, without links.
        recursive: Whether what is below counts.
        clock: Wall time in Unix seconds.

    Attributes:
        ring: What happened.
        job_id: The program, once it is started.
        ended: Nothing will be added any more.
        listeners: How many there are.
    """

    def __init__(
        self, keeper: Keeper, root: str, *, recursive: bool, clock: Callable[[], float]
    ) -> None:
        self.ring = Ring(clock)
        self.ended = False
        self.listeners = 0
        self._clock = clock
        self._keeper = keeper
        self._root = root
        self._recursive = recursive
        self.job_id = ""
        self._bells: set[asyncio.Event] = set()
        self._decode = msgspec.json.Decoder(Line).decode
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Looked at here, because everybody who waited for it may have left.
        self._opened.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )
        self._follower = asyncio.create_task(self._run())

    async def opened(self) -> None:
        """Wait until everything that happens is noticed.

        Raises:
            AgentError: A limit is reached.
            OSError: The directory is missing, or the system refuses.
        """
        await asyncio.shield(self._opened)

    async def aclose(self) -> None:
        """End the program, and every listener."""
        self._follower.cancel()
        await asyncio.gather(self._follower, return_exceptions=True)

    def attach(self, bell: asyncio.Event) -> None:
        """Ring a bell whenever something happened."""
        self._bells.add(bell)

    def detach(self, bell: asyncio.Event) -> None:
        """Ring it no more."""
        self._bells.discard(bell)

    def _ring_bells(self) -> None:
        for bell in self._bells:
            bell.set()

    async def _run(self) -> None:
        try:
            async with asyncio.timeout(START_LIMIT_S) as limit:
                await self._start()
                await self._follow(limit)
            self._fail(UnavailableError("the watcher ended"))
        except TimeoutError:
            self._fail(UnavailableError("the tree is too large to be watched"))
        except (AgentError, OSError) as error:
            self._fail(error)
        except asyncio.CancelledError:
            self._opened.cancel()
            raise
        finally:
            self.ended = True
            self._ring_bells()
            await self._stop()

    def _fail(self, error: Exception) -> None:
        if not self._opened.done():
            self._opened.set_exception(error)

    async def _start(self) -> None:
        argv = [sys.executable, *interpreter_flags(), "-m"]
        argv += ["agent.files.watch.program", self._root, str(int(self._recursive))]
        # A terminal, because of it the keeper keeps a bounded ring and no file.
        spec = Spec(argv=argv, cwd="/", output="pty", kind=KIND)
        spawning = asyncio.ensure_future(self._keeper.spawn(spec))
        try:
            job = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            # Whoever asked has left, but it is being started all the same.
            self.job_id = (await spawning).id
            raise
        self.job_id = job.id

    async def _stop(self) -> None:
        if not self.job_id:
            return
        try:
            await self._keeper.end(self.job_id, 0)
            # Nothing of it is alive, but its end may not be published yet.
            await self._keeper.wait(self.job_id)
            await self._keeper.forget(self.job_id)
        except AgentError as error:
            log.warning("a watcher could not be ended: %s", error)

    async def _follow(self, limit: asyncio.Timeout) -> None:
        """Take what the program says, from its first word on."""
        offset = 0
        while True:
            rest = b""
            async with self._keeper.subscribe(self.job_id, offset) as output:
                if output.offset > offset or output.first_offset > offset:
                    self._missed()
                async for chunk in output:
                    *lines, rest = (rest + chunk.data).split(b"\n")
                    for line in lines:
                        self._take(line, limit)
                    if lines:
                        self._ring_bells()
                offset = output.offset
                if output.end is None or output.end.reason != "slow":
                    return
            # What was cut in two is lost with the rest.
            self._missed()

    def _missed(self) -> None:
        self.ring.add("overflow", "", self._clock())
        self._ring_bells()

    def _take(self, text: bytes, limit: asyncio.Timeout) -> None:
        try:
            line = self._decode(text)
        except msgspec.DecodeError:
            # The middle of a line, after a gap; or the interpreter's last words.
            log.warning("a watcher said %r", text[:200])
            self._missed()
            return
        if line.error is not None:
            raise _failure(line.error, self._root)
        if line.ready:
            limit.reschedule(None)
            self._opened.set_result(None)
        elif line.overflow:
            self._missed()
        elif line.gone:
            self.ring.add("gone", "", self._clock())
        for kind, path, source in line.events:
            self.ring.add(kind, path, line.time, source)


def _failure(error: tuple[int, str], root: str) -> Exception:
    number, message = error
    if number == errno.ENOSPC:
        return StorageFullError(WATCHES)
    if number == errno.EMFILE:
        return UnavailableError(INSTANCES)
    return OSError(number, message, root)
