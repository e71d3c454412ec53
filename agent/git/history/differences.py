"""Finds differences: their files at once, their text as it is taken."""

import codecs
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import msgspec

from agent import wire
from agent.errors import InvalidRequestError, NotFoundError
from agent.git.history.models import FileDifference
from agent.git.history.statistics import read_statistics
from agent.git.refs import check_files, check_revision
from agent.git.registry import Repositories
from agent.git.repository import Repository
from agent.git.runner import Options
from agent.git.submodules import guards_below

TEXT_MAX_BYTES = 16 * 1024 * 1024
"""Of unified text in one JSON answer, unless another bound is asked for."""
CONTEXT_MAX = 10_000
"""Lines around a change."""

PLAIN_TEXT = (
    "--no-color",
    # No program of anybody's has a say in what a difference looks like.
    "--no-ext-diff",
    "--no-textconv",
    # Looking into a submodule would heed a configuration that nobody has looked at.
    "--ignore-submodules=dirty",
    "--submodule=short",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--no-relative",
    "--inter-hunk-context=0",
    "-O/dev/null",
)
"""Whatever is configured, the text is the one that every program can apply."""
STATISTICS = ("--raw", "--numstat", "-z", "--no-abbrev")


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """How a difference is told."""

    context: int = 3
    renames: bool = True
    file: str | None = None
    """Only this one; or what is below it, when it is a directory."""

    def words(self) -> list[str]:
        """Return the options of git for all of a difference.

        Raises:
            InvalidRequestError: The number of lines makes no sense.
        """
        if not 0 <= self.context <= CONTEXT_MAX:
            raise InvalidRequestError(f"context must be 0 to {CONTEXT_MAX}")
        return [*PLAIN_TEXT, "--find-renames" if self.renames else "--no-renames"]

    def text(self) -> list[str]:
        """Return those for its text; the number of lines asks for one, too."""
        return ["--patch", f"--unified={self.context}"]

    def only(self) -> list[str]:
        """Return the words that come last.

        Raises:
            InvalidRequestError: The file can have no such name.
        """
        return ["--", *check_files([self.file] if self.file else [])]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A difference, its text not yet asked for."""

    files: list[FileDifference]
    text: Callable[[], AsyncGenerator[bytes, None]]
    head: bytes = b""
    """Members of the JSON object that come before those of every difference."""

    async def json(self, max_bytes: int) -> AsyncGenerator[bytes, None]:
        """Give the whole as JSON, with so much of the text at most."""
        yield b"{" + self.head + b'"files":' + wire.encode(self.files) + b',"diff":"'
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        left, truncated = max_bytes, False
        async with contextlib.aclosing(self.text()) as blocks:
            async for block in blocks:
                truncated = len(block) > left
                # To the end of a line, so that what is told can be read.
                part = block[: block.rfind(b"\n", 0, left) + 1] if truncated else block
                left -= len(part)
                yield _escaped(decoder.decode(part))
                if truncated:
                    break
        yield _escaped(decoder.decode(b"", final=True))
        yield b'","truncated":' + wire.encode(truncated) + b"}"


def _escaped(text: str) -> bytes:
    return wire.encode(text)[1:-1]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Between what a difference is.

    Without revisions: the index and the files, or, `staged`, HEAD and the index. With
    one: that and the files, or the index. With two: those.
    """

    old: str | None = None
    new: str | None = None
    staged: bool = False
    merge_base: bool = False
    """Not from `old` itself but from where the other side has left it."""
    untracked: bool = False


class Differences:
    """Finds differences in repositories.

    Args:
        repositories: Their owner.
        scratch_dir: Where an index may be copied to.
    """

    def __init__(self, repositories: Repositories, scratch_dir: str) -> None:
        self._repositories = repositories
        self._scratch_dir = scratch_dir

    async def open(self) -> None:
        """Remove what a killed agent has left."""
        await self._repositories.runner.local.run(
            shutil.rmtree, self._scratch_dir, True
        )

    @contextlib.asynccontextmanager
    async def find(self, path: str, wanted: Wanted, form: Form) -> AsyncIterator[Found]:
        """Find what differs; its text can be taken while inside.

        Raises:
            InvalidRequestError: The arguments make no sense.
            NotFoundError: A revision is unknown.
        """
        if wanted.new is not None and (wanted.staged or wanted.untracked):
            raise InvalidRequestError("two revisions leave no room for files or index")
        repository = await self._repositories.find(path)
        if wanted.new is None:
            repository.require_work_tree()
        ends = await self._ends(repository, wanted)
        words = [*form.words(), *(["--cached"] if wanted.staged else []), *ends]
        async with self._index(repository, untracked=wanted.untracked) as options:
            yield await self._between(repository, words, form, options)

    async def _between(
        self,
        repository: Repository,
        words: list[str],
        form: Form,
        options: Options,
        head: bytes = b"",
    ) -> Found:
        runner, only = self._repositories.runner, form.only()
        output = await runner.run(
            ["diff", *STATISTICS, *words, *only], repository=repository, options=options
        )
        files = await runner.local.run(read_statistics, output.stdout)

        def text() -> AsyncGenerator[bytes, None]:
            return runner.stream(
                ["diff", *form.text(), *words, *only],
                repository=repository,
                options=options,
            )

        return Found(files=files, text=text, head=head)

    async def between_trees(
        self,
        repository: Repository,
        trees: tuple[str, str],
        form: Form,
        head: bytes = b"",
    ) -> Found:
        """Return what differs between two trees, by their hashes."""
        words = [*form.words(), *trees]
        return await self._between(repository, words, form, Options(), head)

    async def _ends(self, repository: Repository, wanted: Wanted) -> list[str]:
        """Return the hashes between which to look."""
        if wanted.old is None:
            if wanted.new is not None or wanted.merge_base:
                raise InvalidRequestError("from is required")
            return []
        kind = "commit" if wanted.merge_base else "tree"
        names = [each for each in (wanted.old, wanted.new) if each is not None]
        found = [await self._resolve(repository, each, kind) for each in names]
        if not wanted.merge_base:
            return found
        other = found[1] if len(found) == 2 else "HEAD"
        output = await self._repositories.read(
            *(repository, "merge-base", found[0], other), options=Options(ok=(0, 1))
        )
        if output.code == 1:
            raise NotFoundError("the two have no commit in common")
        return [output.text, *found[1:]]

    async def _resolve(self, repository: Repository, revision: str, kind: str) -> str:
        name = f"{check_revision(revision)}^{{{kind}}}"
        found = await self._repositories.resolve(repository, name)
        if found is None:
            raise NotFoundError(f"revision not found: {revision}")
        return found

    @contextlib.asynccontextmanager
    async def _index(
        self, repository: Repository, *, untracked: bool
    ) -> AsyncIterator[Options]:
        """Give an index that also knows what is untracked: a copy, never the own one."""
        if not untracked:
            yield Options()
            return
        threads = self._repositories.runner.local
        scratch = await threads.run(self._copy_index, repository)
        try:
            # Adding runs a status in the repositories inside of this one.
            inner = await guards_below(self._repositories, repository)
            options = Options(
                variables={"GIT_INDEX_FILE": os.path.join(scratch, "index")},
                settings=[("advice.addEmbeddedRepo", "false"), *inner],
            )
            await self._repositories.read(
                *(repository, "add", "--intent-to-add", "--", "."), options=options
            )
            yield options
        finally:
            await threads.run(shutil.rmtree, scratch, True)

    def _copy_index(self, repository: Repository) -> str:
        os.makedirs(self._scratch_dir, mode=0o700, exist_ok=True)
        scratch = tempfile.mkdtemp(prefix="index", dir=self._scratch_dir)
        with contextlib.suppress(FileNotFoundError):
            own = os.path.join(repository.git_dir, "index")
            shutil.copyfile(own, os.path.join(scratch, "index"))
        return scratch
