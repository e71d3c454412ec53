"""Moves content between commits, the index and the files: add, reset, restore."""

import os
import stat
from collections.abc import Sequence

from agent.errors import ConflictError, InvalidRequestError, NotFoundError
from agent.git.refs import check_files, check_revision
from agent.git.registry import Change, Repositories
from agent.git.repository import Repository
from agent.git.runner import FROM_STDIN, Options, pathspecs
from agent.git.submodules import guards_below

MODES = ("soft", "mixed", "hard", "merge", "keep")
EVERYTHING = frozenset({".", "./"})
FILE_NOT_FOUND = "FILE_NOT_FOUND"
DIRTY = "GIT_DIRTY_WORKTREE"


async def add(repositories: Repositories, path: str, files: list[str]) -> None:
    """Stage files as they are now, deletions included: all of them or none.

    A file that is named is staged although it may be ignored; below a directory
    ignored ones are left out.

    Raises:
        NotFoundError: One is neither there nor known.
    """
    repository = await repositories.find_with_files(path)
    check_files(files)
    if not files:
        return
    async with repositories.changing(repository) as change:
        guards = tuple(await guards_below(repositories, repository))
        if EVERYTHING.intersection(files):
            options = Options(settings=guards)
            await change.run("add", "--all", "--", ".", options=options)
            named = [each for each in files if each not in EVERYTHING]
        else:
            named = files
        directories, others, missing = await repositories.runner.local.run(
            _sorted_by_kind, repository.require_work_tree(), named
        )
        await _require_known(change, missing)
        if directories:
            # Exit code 1: the directory itself is ignored, so nothing is staged.
            stdin = pathspecs(directories)
            options = Options(stdin=stdin, settings=guards, ok=(0, 1))
            await change.run("add", "--all", *FROM_STDIN, options=options)
        if others or missing:
            options = Options(stdin=pathspecs([*others, *missing]), settings=guards)
            await change.run("add", "--all", "--force", *FROM_STDIN, options=options)


def _sorted_by_kind(
    root: str, files: Sequence[str]
) -> tuple[list[str], list[str], list[str]]:
    """Return which are directories, which other files, and which are not there."""
    directories: list[str] = []
    others: list[str] = []
    missing: list[str] = []
    for each in files:
        try:
            mode = os.lstat(os.path.join(root, each)).st_mode
        except (FileNotFoundError, NotADirectoryError):
            missing.append(each)
        else:
            (directories if stat.S_ISDIR(mode) else others).append(each)
    return directories, others, missing


async def _require_known(change: Change, files: Sequence[str]) -> None:
    """See that git knows every one of these files that are gone.

    Raises:
        NotFoundError: It does not.
    """
    if not files:
        return
    listed = await change.run("ls-files", "-z", "--cached", "--full-name")
    unknown = _unknown(files, listed.text.split("\0"))
    if unknown is not None:
        raise NotFoundError(f"file not found: {unknown}", code=FILE_NOT_FOUND)


def _unknown(files: Sequence[str], listed: Sequence[str]) -> str | None:
    known = set(listed)
    known |= {top for name in listed for top in _above(name)}
    return next((each for each in files if os.path.normpath(each) not in known), None)


def _above(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


async def reset(
    repositories: Repositories,
    path: str,
    mode: str,
    target: str | None,
    files: list[str],
) -> None:
    """Move HEAD, the index and the files to a commit; with `files`, only those, not HEAD.

    Raises:
        InvalidRequestError: There is no such mode, or none for single files.
        NotFoundError: The target names no commit.
        ConflictError: Local changes are in the way.
    """
    repository = await repositories.find(path)
    _check_mode(mode, files)
    if mode != "soft":
        repository.require_work_tree()
    async with repositories.changing(repository) as change:
        commit = await _commit(repositories, repository, target)
        if mode == "merge" and await _has_unstaged_changes(change):
            raise ConflictError("there are changes that are not staged", code=DIRTY)
        if not files:
            await change.run("reset", "--quiet", f"--{mode}", *commit, "--")
            return
        options = Options(stdin=pathspecs(check_files(files)))
        if mode == "mixed":
            await change.run("reset", "--quiet", *FROM_STDIN, *commit, options=options)
        else:
            source = commit[0] if commit else "HEAD"
            words = ["restore", "--staged", "--worktree", f"--source={source}"]
            await change.run(*words, *FROM_STDIN, options=options)


def _check_mode(mode: str, files: list[str]) -> None:
    if mode not in MODES:
        raise InvalidRequestError(f"invalid reset mode: '{mode}'")
    if files and mode not in {"mixed", "hard"}:
        raise InvalidRequestError(f"reset mode '{mode}' takes no files")


async def _commit(
    repositories: Repositories, repository: Repository, target: str | None
) -> list[str]:
    if not target:
        return []
    commit = await repositories.resolve_commit(repository, check_revision(target))
    if commit is None:
        raise NotFoundError(f"revision not found: {target}")
    return [commit]


async def _has_unstaged_changes(change: Change) -> bool:
    await change.run("update-index", "-q", "--refresh", options=Options(ok=(0, 1)))
    found = await change.run(
        *("diff-files", "--quiet", "--ignore-submodules=dirty", "--no-ext-diff"),
        options=Options(ok=(0, 1)),
    )
    return found.code == 1


async def restore(
    repositories: Repositories,
    path: str,
    files: list[str],
    staged: bool | None,
    worktree: bool | None,
    source: str | None,
) -> None:
    """Take files back from the index or a commit: all of them or none.

    Raises:
        InvalidRequestError: No file is named, or nothing is to be restored.
        NotFoundError: The source is unknown, or one of the files.
    """
    repository = await repositories.find_with_files(path)
    if not files:
        raise InvalidRequestError("files must not be empty")
    check_files(files)
    if worktree is None and staged is None:
        worktree = True
    if not staged and not worktree:
        raise InvalidRequestError("nothing to restore: neither staged nor worktree")
    words = [*(["--staged"] if staged else []), *(["--worktree"] if worktree else [])]
    async with repositories.changing(repository) as change:
        if source:
            tree = await repositories.resolve(
                repository, f"{check_revision(source)}^{{tree}}"
            )
            if tree is None:
                raise NotFoundError(f"revision not found: {source}")
            words.append(f"--source={tree}")
        await change.run(
            *("restore", *words, *FROM_STDIN), options=Options(stdin=pathspecs(files))
        )
