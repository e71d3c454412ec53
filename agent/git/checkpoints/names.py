"""Asks git which files belong to the state of a directory.

All that git would not ignore; tracked or not makes no difference, except that what
a repository tracks belongs to the state even where a pattern would ignore it. A nested
repository is a plain directory with rules of its own, as git itself reads them.
"""

import asyncio
import os
import stat
from contextlib import suppress

from agent.errors import AgentError, TimeLimitError, TooManyError
from agent.files.threads import Threads
from agent.git.checkpoints.store import CHECK_IGNORE, Store
from agent.git.registry import Repositories
from agent.git.repository import Repository, find

ENTRIES_MAX = 500_000
"""Files of one state; their names are held in memory."""
NESTED_MAX = 1000
"""Repositories inside the directory; each takes calls of its own."""
LIST_LIMIT_S = 300.0
"""For one list, the last resort where the disk does not answer."""
EXCLUDES_MAX_BYTES = 1024 * 1024
"""Of a repository's own `info/exclude`."""


class Names:
    """Lists the files of a state.

    Args:
        repositories: Runs git.
        threads: In which the disk is looked at.
        store: Where the lists of what is ignored are put for git.
    """

    def __init__(
        self, repositories: Repositories, threads: Threads, store: Store
    ) -> None:
        self._repositories = repositories
        self._threads = threads
        self._store = store

    async def of_state(self, *, include_ignored: bool) -> set[bytes]:
        """Return the names of all files that may belong to the state.

        Raises:
            TooManyError: There are too many files or repositories.
            TimeLimitError: Git does not come to an end.
        """
        names: set[bytes] = set()
        # What is above the directory counts too, unless it says to ignore all of it.
        top = await self._threads.run(enclosing, self._store.root)
        front = [(b"", await self._first_top(top))]
        for seen, (prefix, base) in enumerate(front):
            if seen >= NESTED_MAX:
                raise TooManyError(f"more than {NESTED_MAX} repositories in there")
            place = os.path.join(self._store.root, os.fsdecode(prefix)).rstrip("/")
            found = await self._found(base or place, place, all_of_it=include_ignored)
            for name in found:
                if name.endswith(b"/"):
                    front.append((prefix + name, ""))
                else:
                    names.add(prefix + name)
            if len(names) > ENTRIES_MAX:
                raise TooManyError(f"more than {ENTRIES_MAX} files in there")
        return names

    async def _first_top(self, top: str) -> str:
        if top == self._store.root:
            return top
        inside = _below(self._store.root, top)
        output = await self._store.read(
            *CHECK_IGNORE,
            *("--quiet", "--", f"./{inside}"),
            work_tree=top,
            ok=(0, 1, 128),
        )
        return self._store.root if output.code == 0 else top

    async def _found(self, top: str, place: str, *, all_of_it: bool) -> list[bytes]:
        """Return the names below `place`, relative to it, by the rules from `top` on."""
        repository = await self._threads.run(repository_at, top)
        await self._threads.run(self._exclude, repository)
        words = ["ls-files", "--others", "-z"]
        words += [] if all_of_it else ["--exclude-standard"]
        inside = _below(place, top)
        only = ["--", inside] if inside else []
        answers = [await self._list(top, *words, *only)]
        if repository is not None and not all_of_it:
            answers.append(await self._tracked(top, only))
        prefix = os.fsencode(inside) + b"/" if inside else b""
        return [
            name[len(prefix) :]
            for answer in answers
            for name in answer.split(b"\0")
            if name and name.startswith(prefix)
        ]

    async def _list(self, top: str, *words: str) -> bytes:
        try:
            async with asyncio.timeout(LIST_LIMIT_S):
                # Without an index everything is untracked, and a repository one entry.
                output = await self._store.read(*words, work_tree=top)
        except TimeoutError as error:
            raise TimeLimitError(f"listing {top} takes too long") from error
        return output.stdout

    async def _tracked(self, top: str, only: list[str]) -> bytes:
        """Return what a repository tracks although it is ignored; a broken one, nothing."""
        with suppress(AgentError, OSError, TimeoutError):
            async with asyncio.timeout(LIST_LIMIT_S):
                repository = await self._repositories.find(top)
                words = (
                    "ls-files",
                    "--cached",
                    "--ignored",
                    "--exclude-standard",
                    "-z",
                )
                output = await self._repositories.read(repository, *words, *only)
            return output.stdout
        return b""

    def _exclude(self, repository: Repository | None) -> None:
        """Give our store the patterns that the repository keeps for itself."""
        patterns = b""
        if repository is not None:
            path = os.path.join(repository.common_dir, "info", "exclude")
            with suppress(OSError):
                patterns = _read_regular(path)
        self._store.write_excludes(patterns)


def enclosing(root: str) -> str:
    """Return the root of the repository that a directory lies in, or the directory."""
    place = root
    while place != "/":
        if os.path.lexists(os.path.join(place, ".git")):
            return place
        place = os.path.dirname(place)
    return root


def _below(place: str, top: str) -> str:
    """Return the path from a directory to one in it, or nothing."""
    return place.removeprefix(top).strip("/")


def repository_at(top: str) -> Repository | None:
    """Return the repository whose files are in `top`; a broken one is none."""
    with suppress(AgentError, OSError):
        found = find(top, top)
        return None if found.work_tree is None else found
    return None


def _read_regular(path: str) -> bytes:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        return os.read(fd, EXCLUDES_MAX_BYTES)
    finally:
        os.close(fd)
