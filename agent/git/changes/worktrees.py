"""Worktrees: further directories with files of the same repository."""

import os

from agent.errors import AgentError, ConflictError, InvalidRequestError, NotFoundError
from agent.git.branches import BRANCH_NOT_FOUND
from agent.git.changes.conflicts import DIRTY
from agent.git.changes.models import (
    Worktree,
    WorktreeList,
    WorktreeRemoval,
    WorktreeRequest,
)
from agent.git.clones import check_place
from agent.git.failures import failure_of
from agent.git.guards import Setting
from agent.git.history.commits import commit_of
from agent.git.refs import check_branch
from agent.git.registry import Repositories
from agent.git.repository import Repository
from agent.git.runner import Options
from agent.wire import UNSET, printable


async def worktrees(repositories: Repositories, path: str) -> WorktreeList:
    """Return the worktrees of a repository, its own first.

    Raises:
        AgentError: There is no repository there.
    """
    repository = await repositories.find(path)
    listed = await repositories.read(
        repository, "worktree", "list", "--porcelain", "-z"
    )
    return WorktreeList(worktrees=_read(os.fsdecode(listed.stdout)))


def _read(listed: str) -> list[Worktree]:
    """Return what `git worktree list --porcelain -z` told."""
    found: list[Worktree] = []
    for block in listed.split("\0\0"):
        lines = (line.partition(" ") for line in block.split("\0"))
        words = {name: value for name, _, value in lines if name}
        if "worktree" not in words:
            continue
        branch = words.get("branch", "").removeprefix("refs/heads/")
        found.append(
            Worktree(
                path=printable(words["worktree"]),
                bare="bare" in words,
                detached="detached" in words,
                locked="locked" in words,
                prunable="prunable" in words,
                hash=words.get("HEAD") or UNSET,
                branch=printable(branch) or UNSET,
            )
        )
    return found


async def add_worktree(repositories: Repositories, wanted: WorktreeRequest) -> None:
    """Make a worktree: of a branch, of a new one, or detached.

    Raises:
        InvalidRequestError: The arguments make no sense.
        NotFoundError: The branch, or the revision, is unknown.
        ConflictError: The branch is checked out elsewhere, or the place is taken.
    """
    repository = await repositories.find(wanted.path)
    place = await _place(repositories, wanted.worktree)
    await repositories.runner.local.run(check_place, place, wanted.worktree)
    async with repositories.changing(repository) as change:
        words, start = await _what(repositories, repository, wanted)
        await change.run(
            *("worktree", "add", "--quiet", *words, "--", place, *start),
            options=Options(settings=[("worktree.guessRemote", "false")]),
        )


async def _what(
    repositories: Repositories, repository: Repository, wanted: WorktreeRequest
) -> tuple[list[str], list[str]]:
    """Return the options that say what is checked out, and what it begins at."""
    if wanted.branch is not None:
        if wanted.new_branch is not None or wanted.revision is not None:
            raise InvalidRequestError("branch stands alone")
        name = check_branch(wanted.branch)
        if await repositories.resolve(repository, f"refs/heads/{name}") is None:
            raise NotFoundError(f"branch '{name}' not found", code=BRANCH_NOT_FOUND)
        return [], [name]
    commit = await commit_of(repositories, repository, wanted.revision or "HEAD")
    if wanted.new_branch is not None:
        return ["--no-track", "-b", check_branch(wanted.new_branch)], [commit]
    return ["--detach"], [commit]


async def remove_worktree(repositories: Repositories, wanted: WorktreeRemoval) -> None:
    """Remove a worktree with its files; with changes in it only by force.

    Raises:
        NotFoundError: There is none at that place.
        ConflictError: It has changes, is locked, or is the repository's own.
    """
    repository = await repositories.find(wanted.path)
    place = await _place(repositories, wanted.worktree)
    async with repositories.changing(repository) as change:
        # Git looks for changes in there, by what is configured for that one.
        settings = await _guards(repositories, wanted.worktree)
        force = ["--force"] if wanted.force else []
        output = await change.run(
            *("worktree", "remove", *force, "--", place),
            options=Options(settings=settings, ok=(0, 128)),
        )
    if output.code == 0:
        return
    said = output.stderr.lower()
    if b"is not a working tree" in said:
        raise NotFoundError(f"no such worktree: {wanted.worktree}")
    if b"modified or untracked" in said:
        raise ConflictError(f"worktree has changes: {wanted.worktree}", code=DIRTY)
    if b"main working tree" in said or b"locked working tree" in said:
        raise ConflictError(f"worktree cannot be removed: {wanted.worktree}")
    raise failure_of(output)


async def _guards(repositories: Repositories, path: str) -> list[Setting]:
    try:
        return list((await repositories.find(path)).guards)
    except (AgentError, OSError):
        # It is gone already, or none; git will say so.
        return []


async def _place(repositories: Repositories, path: str) -> str:
    if not path:
        raise InvalidRequestError("worktree is required")
    threads = repositories.runner.local
    return await threads.run(_absolute, repositories, path)


def _absolute(repositories: Repositories, path: str) -> str:
    return os.path.realpath(repositories.paths.resolve(path))
