"""Searches files and names, each search in a process of its own.

No pattern of a caller is tried in this process: the program of `engine/` runs as a job of
the keeper, prints the finished JSON, and is ended when the client leaves. The answer waits
in the job's log until it is complete, because its headers say what is not in it.
"""

import asyncio
import base64
import binascii
import os
import shutil
import stat
import sys
from collections.abc import AsyncIterator, Callable

import msgspec

from agent.errors import InvalidRequestError, StorageFullError, UnavailableError
from agent.files.paths import Paths, base_name, shown_root, told_as
from agent.files.search.engine.bounds import ANSWER_MAX_BYTES, LIMIT_S
from agent.files.search.engine.request import Request
from agent.files.threads import Threads
from agent.keeper.client import Exit, Keeper, Spec

AT_ONCE = 4
"""Searches that run at the same time; more wait their turn."""
OVERTIME_S = 15.0
"""After its own limit a search may still write down what it has; then it is killed."""
NOTE_MAX_BYTES = 32 * 1024
"""Of the last line of a search's output; the longest path takes half of it."""
LOOK_INTERVAL_S = 0.5
"""Between looks at whether the client is still there, while a search runs."""
ROOM = os.path.abspath(__file__).removesuffix("/agent/files/search/searches.py")
"""Where the package lies, for a program that does not look for it anywhere else."""
INTERPRETER = (sys.executable, "-I", "-S", "-X", "utf8")
"""Isolated and without site-packages, which would cost each search 20 ms."""
PROGRAM = (
    f"import sys; sys.path.insert(0, {ROOM!r});"
    " from agent.files.search.engine.main import main; main()"
)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller may ask for besides path and pattern.

    Attributes:
        regex: The pattern is an expression.
        ignore_case: Letters match in both cases.
        context: Lines told before and after a match.
        include: Globs of names, one of which a file has to match.
        exclude: Globs of names that are left out, with all below them.
        gitignore: Heed `.gitignore` files.
        max_results: Results wanted; 0 is all.
        cursor: Where an earlier answer ended, as it said itself.
    """

    regex: bool = False
    ignore_case: bool = False
    context: int = 0
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    gitignore: bool = False
    max_results: int = 0
    cursor: str | None = None


class _Note(msgspec.Struct, frozen=True):
    """The last line that the program prints."""

    count: int = 0
    cut: str = ""
    cut_lines: int = 0
    position: tuple[str, int] | None = None
    engine: str = ""
    invalid: str = ""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A complete answer.

    Attributes:
        body: Its JSON, in pieces.
        size_bytes: Of the JSON.
        count: Results in it.
        cut: Which bound cut it short: `time`, `bytes`, `results`, or nothing.
        cut_lines: Results whose content is not whole.
        cursor: Where the next answer begins, if this one was cut and the place is known.
        engine: `ripgrep` or `python`.
    """

    body: AsyncIterator[bytes]
    size_bytes: int
    count: int
    cut: str
    cut_lines: int
    cursor: str
    engine: str


class Searches:
    """Runs searches through the keeper.

    Args:
        keeper: Who starts the processes.
        work_dir: The absolute directory that relative paths start from.
        limit_s: Wall clock of one search.
        max_bytes: JSON of one answer.
        with_ripgrep: Whether ripgrep is used where it is found.
    """

    def __init__(
        self,
        keeper: Keeper,
        work_dir: str,
        *,
        limit_s: float = LIMIT_S,
        max_bytes: int = ANSWER_MAX_BYTES,
        with_ripgrep: bool = True,
    ) -> None:
        self._keeper = keeper
        self._paths = Paths(work_dir)
        self._limit_s = limit_s
        self._max_bytes = max_bytes
        self._with_ripgrep = with_ripgrep
        self._threads = Threads("searches", 2)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._ends: set[asyncio.Task[None]] = set()

    async def aclose(self) -> None:
        """Wait until the searches that are over are forgotten, and end the threads."""
        await asyncio.gather(*self._ends, return_exceptions=True)
        await self._threads.aclose()

    async def prepare(
        self,
        kind: str,
        path: str,
        pattern: str,
        options: Options,
        left: Callable[[], bool] = lambda: False,
    ) -> "Search":
        """Return a search that is ready to begin; `left` tells that nobody waits for it.

        Raises:
            InvalidRequestError: The options make no sense.
            OSError: There is nothing at `path`, or it may not be looked at.
        """
        request = await self._threads.run(self._request, kind, path, pattern, options)
        return Search(self._keeper, request, self._turns, self._ends, left)

    def _request(self, kind: str, path: str, pattern: str, options: Options) -> Request:
        with told_as(path):
            root = self._paths.resolve(path)
            mode = os.stat(root).st_mode
        shown = shown_root(path)
        root = root.rstrip("/") or "/"
        return Request(
            kind=kind,
            # Without its slash, so that what is below begins with one.
            root="" if root == "/" and stat.S_ISDIR(mode) else root,
            shown=shown,
            shown_root=shown.rstrip("/") or ("/" if shown else "."),
            root_name=base_name(path),
            pattern=pattern,
            regex=options.regex,
            ignore_case=options.ignore_case,
            context=options.context,
            include=options.include,
            exclude=options.exclude,
            gitignore=options.gitignore,
            max_results=options.max_results,
            after=_position(options.cursor) if options.cursor else None,
            ripgrep=ripgrep() if self._with_ripgrep else None,
            limit_s=self._limit_s,
            max_bytes=self._max_bytes,
        )


class Search:
    """One search; to be used with `async with`, which ends and forgets it."""

    def __init__(
        self,
        keeper: Keeper,
        request: Request,
        turns: asyncio.Semaphore,
        ends: set[asyncio.Task[None]],
        left: Callable[[], bool],
    ) -> None:
        self._keeper = keeper
        self._request = request
        self._turns = turns
        self._ends = ends
        self._left = left
        self._job_id = ""
        self._has_ended = False

    async def __aenter__(self) -> Found:
        """Search, and return the answer.

        Raises:
            InvalidRequestError: The expression is none.
            StorageFullError: There is no room for the answer.
            UnavailableError: Somebody ended the search.
            ConnectionResetError: The client left.
            TooManyError: As many commands as the agent allows are running.
        """
        async with self._turns:
            self._job_id = (await self._keeper.spawn(self._spec())).id
            try:
                ended = await self._wait()
                return await self._found(ended)
            except BaseException:
                await self._forget()
                raise

    async def __aexit__(self, *_: object) -> None:
        await self._forget()

    def _spec(self) -> Spec:
        return Spec(
            argv=[*INTERPRETER, "-c", PROGRAM, self._request.to_argument()],
            cwd="/",
            timeout_s=self._request.limit_s + OVERTIME_S,
            max_bytes=self._request.max_bytes + 2 * NOTE_MAX_BYTES,
            kind="search",
        )

    async def _wait(self) -> Exit:
        waiting = asyncio.ensure_future(self._keeper.wait(self._job_id))
        try:
            while not waiting.done():
                await asyncio.wait([waiting], timeout=LOOK_INTERVAL_S)
                if self._left():
                    raise ConnectionResetError("the client left")
            ended = await waiting
            self._has_ended = True
            return ended
        finally:
            waiting.cancel()

    async def _found(self, ended: Exit) -> Found:
        if ended.dropped_bytes:
            raise StorageFullError("no room for the answer of the search")
        stored = ended.output_bytes
        tail = await self._read(max(0, stored - NOTE_MAX_BYTES))
        body, _, line = tail.rstrip(b"\n").rpartition(b"\n")
        try:
            note = msgspec.json.decode(line, type=_Note)
        except msgspec.DecodeError as error:
            raise UnavailableError(
                f"the search was ended from outside ({ended.reason},"
                f" exit code {ended.exit_code})"
            ) from error
        if note.invalid:
            raise InvalidRequestError(f"pattern: {note.invalid}")
        size = stored - (len(tail) - len(body))
        return Found(
            body=_once(body) if size == len(body) else self._body(size),
            size_bytes=size,
            count=note.count,
            cut=note.cut,
            cut_lines=note.cut_lines,
            cursor=_cursor(note.position) if note.position else "",
            engine=note.engine,
        )

    async def _read(self, offset: int) -> bytes:
        async with self._keeper.subscribe(self._job_id, offset) as output:
            return b"".join([chunk.data async for chunk in output])

    async def _body(self, size: int) -> AsyncIterator[bytes]:
        left = size
        async with self._keeper.subscribe(self._job_id) as output:
            async for chunk in output:
                yield chunk.data[:left]
                left -= len(chunk.data)
                if left <= 0:
                    return
        raise UnavailableError("the answer of the search is gone")

    async def _forget(self) -> None:
        """End what there is of it, and drop its output, also when we are cancelled."""
        job_id, self._job_id = self._job_id, ""
        if job_id:
            task = asyncio.ensure_future(self._end(job_id))
            self._ends.add(task)
            task.add_done_callback(self._ends.discard)
            await asyncio.shield(task)

    async def _end(self, job_id: str) -> None:
        if not self._has_ended:
            # Workers that are stuck, ripgrep: all that came of it.
            await self._keeper.end(job_id, 0)
            await self._keeper.wait(job_id)
        await self._keeper.forget(job_id)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def ripgrep() -> str | None:
    """Return ripgrep: the system's, or the one that was installed with the agent."""
    beside = os.path.dirname(sys.executable)
    return shutil.which("rg") or shutil.which("rg", path=beside)


def _cursor(position: tuple[str, int]) -> str:
    path, line = position
    text = f"{line}:{path}".encode("utf-8", "surrogateescape")
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def _position(cursor: str) -> tuple[str, int]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        line, _, path = text.partition(b":")
        return path.decode("utf-8", "surrogateescape"), int(line)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError("cursor: not one of ours") from error
