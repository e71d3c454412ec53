"""The stash: changes that are put away, and brought back."""

import os
from collections.abc import Sequence
from contextlib import suppress

from agent.errors import NotFoundError
from agent.git.changes.conflicts import Conflicts, check_message, committing
from agent.git.changes.merges import Place, place
from agent.git.changes.models import (
    StashApplyRequest,
    Stashed,
    StashEntry,
    StashEntryRequest,
    StashList,
    StashRequest,
)
from agent.git.failures import failure_of
from agent.git.registry import Repositories
from agent.git.repository import Repository
from agent.git.runner import FROM_STDIN, Options
from agent.wire import UNSET, printable

REF = "refs/stash"
FORMAT = "%H%x00%gs%x00%cI"


async def stashes(repositories: Repositories, path: str) -> StashList:
    """Return what is put away, newest first.

    Raises:
        AgentError: There is no repository there.
    """
    repository = await repositories.find(path)
    if await repositories.resolve(repository, REF) is None:
        return StashList(entries=[])
    output = await repositories.read(
        *(repository, "stash", "list", "-z", f"--format={FORMAT}")
    )
    fields = output.stdout.decode("utf-8", "replace").split("\0")
    return StashList(
        entries=[
            StashEntry(index=index, hash=number, message=message, timestamp=moment)
            for index, (number, message, moment) in enumerate(
                zip(fields[::3], fields[1::3], fields[2::3], strict=False)
            )
        ]
    )


async def push(repositories: Repositories, wanted: StashRequest) -> Stashed:
    """Put the local changes away; without any nothing happens.

    Raises:
        NotFoundError: There is no commit yet.
    """
    message = check_message(wanted.message)
    variables = committing(wanted, as_author=True)
    async with place(repositories, wanted.path, "merge") as here:
        if not await here.attempt.head():
            raise NotFoundError("there is no commit yet to put changes away from")
        before = await repositories.resolve(here.repository, REF)
        # It names all files by a pattern itself when it removes the untracked ones.
        words = ["--no-literal-pathspecs", "stash", "push", "--quiet"]
        words += ["--include-untracked"] if wanted.include_untracked else []
        words += ["--keep-index"] if wanted.keep_index else []
        words += ["-m", message] if message else []
        # Without a name git takes one of its own here, so nobody need be configured.
        options = Options(settings=here.inner, variables=variables)
        await here.change.run(*words, options=options)
        after = await repositories.resolve(here.repository, REF)
    return Stashed(hash=UNSET if after is None or after == before else after)


async def drop(repositories: Repositories, wanted: StashEntryRequest) -> None:
    """Forget an entry.

    Raises:
        NotFoundError: There is none of that number.
    """
    repository = await repositories.find(wanted.path)
    async with repositories.changing(repository) as change:
        await _entry(repositories, repository, wanted.index)
        await change.run("stash", "drop", "--quiet", _name(wanted.index))


async def apply(
    repositories: Repositories, wanted: StashApplyRequest, *, drops: bool
) -> Conflicts | None:
    """Bring an entry back, and forget it if that went well and is asked for.

    Returns:
        The conflicts that it met, if any.

    Raises:
        NotFoundError: There is none of that number.
        ConflictError: Local changes are in the way.
    """
    async with place(repositories, wanted.path, "merge") as here:
        await here.attempt.require_none()
        commit = await _entry(repositories, here.repository, wanted.index)
        restoring = _Applying(repositories, here, commit)
        await restoring.look()
        words = ["stash", "apply", "--quiet"]
        words += ["--index"] if wanted.restore_index else []
        output = await here.change.run(
            *(*words, _name(wanted.index)),
            options=Options(settings=here.settings, ok=(0, 1, 128)),
        )
        if output.code == 0:
            if drops:
                await here.change.run("stash", "drop", "--quiet", _name(wanted.index))
            return None
        files = await here.attempt.unmerged()
        if files and wanted.keep_conflicts:
            return Conflicts(kind="stash", files=files, kept=True)
        await restoring.take_back()
        if not files:
            raise failure_of(output)
        return Conflicts(kind="stash", files=files, kept=False)


class _Applying:
    """What was there before an entry was brought back, and how to be there again.

    Args:
        repositories: The owner.
        here: The locked repository.
        commit: The entry's.
    """

    def __init__(self, repositories: Repositories, here: Place, commit: str) -> None:
        self._repositories = repositories
        self._here = here
        self._commit = commit
        self._root = here.repository.require_work_tree()
        self._tree = ""
        self._new: list[bytes] = []

    async def look(self) -> None:
        """Keep the index as a tree, and note which untracked files would be new.

        Raises:
            ConflictError: The index has conflicts already.
        """
        written = await self._here.change.run("write-tree")
        self._tree = written.text
        untracked = f"{self._commit}^3"
        if await self._repositories.resolve(self._here.repository, untracked):
            listed = await self._repositories.read(
                *(self._here.repository, "ls-tree", "-r", "-z", "--name-only"),
                *("--full-tree", untracked),
            )
            names = [each for each in listed.stdout.split(b"\0") if each]
            threads = self._repositories.runner.local
            self._new = await threads.run(_missing, self._root, names)

    async def take_back(self) -> None:
        """Undo what the attempt has done: git has touched only what had no changes."""
        changed = await self._here.change.run(
            *("diff", "--cached", "--name-only", "--no-renames", "-z", "--no-ext-diff"),
            *("--no-relative", "--ignore-submodules=dirty", self._tree),
        )
        if changed.stdout:
            await self._here.change.run(
                *("restore", f"--source={self._tree}", "--staged", "--worktree"),
                *FROM_STDIN,
                options=Options(stdin=changed.stdout, settings=self._here.settings),
            )
        await self._repositories.runner.local.run(_remove, self._root, self._new)


def _missing(root: str, names: Sequence[bytes]) -> list[bytes]:
    top = os.fsencode(root)
    return [each for each in names if not os.path.lexists(os.path.join(top, each))]


def _remove(root: str, names: Sequence[bytes]) -> None:
    top = os.fsencode(root)
    for name in names:
        with suppress(OSError):
            os.unlink(os.path.join(top, name))
        above = os.path.dirname(name)
        with suppress(OSError):
            while above:
                os.rmdir(os.path.join(top, above))
                above = os.path.dirname(above)


async def _entry(repositories: Repositories, repository: Repository, index: int) -> str:
    """Return the commit of an entry.

    Raises:
        NotFoundError: There is none of that number.
    """
    found = None
    if 0 <= index < 10**6:
        found = await repositories.resolve(repository, f"{REF}@{{{index}}}")
    if found is None:
        raise NotFoundError(f"no such stash entry: {printable(str(index))}")
    return found


def _name(index: int) -> str:
    return f"stash@{{{index}}}"
