"""Local branches, and what is checked out."""

from agent import wire
from agent.errors import InvalidRequestError, NotFoundError
from agent.git.models import Branches
from agent.git.refs import check_branch, check_revision, is_ref_name
from agent.git.registry import Change, Repositories
from agent.git.runner import Options
from agent.wire import UNSET

BRANCH_NOT_FOUND = "GIT_BRANCH_NOT_FOUND"


async def branches(
    repositories: Repositories, path: str, *, with_new_fields: bool
) -> Branches:
    """Return the local branches, sorted, and the one that is checked out.

    Raises:
        AgentError: There is no repository there.
    """
    repository = await repositories.find(path)
    listed = await repositories.read(
        repository, "for-each-ref", "--format=%(HEAD)%(refname)", "refs/heads/"
    )
    lines = listed.text.splitlines()
    names = [line[1:].removeprefix("refs/heads/") for line in lines]
    current = next(
        (name for name, line in zip(names, lines, strict=True) if line[0] == "*"), None
    )
    if current is None and with_new_fields:
        # Detached, or not born yet.
        current = await repositories.head_branch(repository)
    return Branches(
        branches=[wire.printable(name) for name in names],
        current=wire.printable(current) if current and with_new_fields else UNSET,
    )


async def create_branch(repositories: Repositories, path: str, name: str) -> None:
    """Create a branch at HEAD and check it out; local changes come along.

    Raises:
        AgentError: The branch exists, or cannot be called so.
    """
    repository = await repositories.find_with_files(path)
    check_branch(name)
    async with repositories.changing(repository) as change:
        await change.run("checkout", "-q", "--no-track", "-b", name, "--")


async def delete_branch(repositories: Repositories, path: str, name: str) -> None:
    """Delete a branch, merged or not.

    Raises:
        AgentError: It does not exist, or is checked out.
    """
    repository = await repositories.find(path)
    check_branch(name)
    async with repositories.changing(repository) as change:
        await change.run("branch", "-D", "--", name)


async def checkout(repositories: Repositories, path: str, name: str) -> None:
    """Check out a branch, or the commit that a name means, detached.

    A branch of exactly one remote is made a local one that follows it.

    Raises:
        NotFoundError: The name means nothing here.
        ConflictError: Local changes would be overwritten; nothing has changed.
    """
    repository = await repositories.find_with_files(path)
    check_revision(name, "branch")
    async with repositories.changing(repository) as change:
        if is_ref_name(name) and await _has_ref(change, f"refs/heads/{name}"):
            await change.run("checkout", "-q", name, "--")
            return
        commit = await repositories.resolve_commit(repository, name)
        if commit is not None:
            await change.run("checkout", "-q", "--detach", commit, "--")
            return
        followed = await _remote_branch(change, name) if is_ref_name(name) else None
        if followed is None:
            raise NotFoundError(f"branch '{name}' not found", code=BRANCH_NOT_FOUND)
        await change.run("checkout", "-q", "--track", "-b", name, followed, "--")


async def _has_ref(change: Change, ref: str) -> bool:
    output = await change.run(
        "show-ref", "--verify", "--quiet", "--", ref, options=Options(ok=(0, 1))
    )
    return output.code == 0


async def _remote_branch(change: Change, name: str) -> str | None:
    """Return the one remote branch of that name, or None.

    Raises:
        InvalidRequestError: More than one remote has it.
    """
    assert change.repository is not None  # noqa: S101 - made by `changing`
    names = change.repository.configuration.remotes()
    listed = await change.run("for-each-ref", "--format=%(refname)", "refs/remotes/")
    have = set(listed.text.splitlines())
    found = [
        f"{each}/{name}" for each in names if f"refs/remotes/{each}/{name}" in have
    ]
    if len(found) > 1:
        raise InvalidRequestError(
            f"more than one remote has a branch '{name}': {', '.join(found)}"
        )
    return found[0] if found else None
