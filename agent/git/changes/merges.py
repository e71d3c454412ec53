"""Brings histories together: merge, rebase, cherry-pick."""

import contextlib
from collections.abc import AsyncIterator, Sequence

import msgspec

from agent.errors import ConflictError, InvalidRequestError
from agent.git.changes.conflicts import (
    DIRTY,
    ONLY_CONFIGURED,
    Attempt,
    Kind,
    Outcome,
    check_message,
    committing,
)
from agent.git.changes.models import (
    CherryPickRequest,
    MergeRequest,
    RebaseRequest,
)
from agent.git.guards import Setting
from agent.git.history.commits import commit_of
from agent.git.registry import Change, Repositories
from agent.git.repository import Repository
from agent.git.runner import Options
from agent.git.submodules import guards_below

REVISIONS_MAX = 1000
"""Commits of one cherry-pick; they are git's arguments."""

MERGE = (
    *("merge", "--no-autostash", "--no-stat", "--quiet", "--no-edit"),
    *("--no-verify", "--no-verify-signatures", "--no-gpg-sign"),
)
FAST_FORWARD = {"allow": "--ff", "only": "--ff-only", "never": "--no-ff"}
REBASE = (
    *("rebase", "--no-autostash", "--no-stat", "--quiet", "--no-verify"),
    *("--no-gpg-sign", "--no-fork-point", "--no-autosquash", "--merge"),
)
REBASE_SETTINGS: tuple[Setting, ...] = (
    ("rebase.autoStash", "false"),
    ("rebase.rebaseMerges", "false"),
    # Only the branch that is named moves.
    ("rebase.updateRefs", "false"),
)
UNUSED = {"GIT_COMMITTER_NAME": "unused", "GIT_COMMITTER_EMAIL": "unused"}
PICK = ("cherry-pick", "--no-gpg-sign")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A repository that is locked, and what a change of it runs with."""

    repository: Repository
    change: Change
    attempt: Attempt
    inner: tuple[Setting, ...]
    """What makes the repositories inside of it harmless."""

    @property
    def settings(self) -> tuple[Setting, ...]:
        """What whatever commits runs with."""
        return (*self.inner, *ONLY_CONFIGURED)


@contextlib.asynccontextmanager
async def place(
    repositories: Repositories, path: str, kind: Kind
) -> AsyncIterator[Place]:
    """Lock a repository with files for one kind of change.

    Raises:
        AgentError: There is none, or it is bare.
    """
    repository = await repositories.find_with_files(path)
    async with repositories.changing(repository) as change:
        yield Place(
            repository=repository,
            change=change,
            attempt=Attempt(repositories, change, repository, kind),
            inner=tuple(await guards_below(repositories, repository)),
        )


async def merge(repositories: Repositories, wanted: MergeRequest) -> Outcome:
    """Merge a revision into the current branch.

    Raises:
        InvalidRequestError: The arguments make no sense.
        NotFoundError: The revision names no commit.
        ConflictError: Local changes are in the way, or something is under way.
    """
    message = check_message(wanted.message)
    variables = committing(wanted, as_author=True)
    async with place(repositories, wanted.path, "merge") as here:
        options = Options(settings=here.settings, variables=variables)
        if wanted.step != "start":
            _check_step(wanted.step, ("continue", "abort"))
            return await here.attempt.go_on(wanted.step, options)
        await here.attempt.require_none()
        await commit_of(repositories, here.repository, wanted.revision)
        words = [*MERGE, FAST_FORWARD[wanted.fast_forward]]
        if wanted.squash:
            if wanted.fast_forward == "never":
                raise InvalidRequestError("squash makes no commit of its own")
            words.append("--squash")
            # It commits nothing, and asks for a name that it then does not use.
            options = Options(settings=here.inner, variables=variables or UNUSED)
        elif message:
            words += ["-m", message]
        # By its name, which git's own message tells.
        words += ["--", wanted.revision]
        return await here.attempt.make(words, options, keep=wanted.keep_conflicts)


async def rebase(repositories: Repositories, wanted: RebaseRequest) -> Outcome:
    """Put the commits of the current branch on top of others.

    Raises:
        NotFoundError: A revision names no commit.
        ConflictError: There are local changes, or something is under way.
    """
    variables = committing(wanted, as_author=False)
    async with place(repositories, wanted.path, "rebase") as here:
        settings = (*here.settings, *REBASE_SETTINGS)
        options = Options(settings=settings, variables=variables)
        if wanted.step != "start":
            _check_step(wanted.step, ("continue", "abort", "skip"))
            return await here.attempt.go_on(wanted.step, options)
        await here.attempt.require_none()
        upstream = await commit_of(repositories, here.repository, wanted.upstream)
        words = [*REBASE]
        if wanted.onto is not None:
            onto = await commit_of(repositories, here.repository, wanted.onto)
            words.append(f"--onto={onto}")
        return await here.attempt.make(
            [*words, upstream], options, keep=wanted.keep_conflicts
        )


async def cherry_pick(repositories: Repositories, wanted: CherryPickRequest) -> Outcome:
    """Repeat commits on the current branch.

    Raises:
        InvalidRequestError: None is named, or too many.
        NotFoundError: A revision names no commit.
        ConflictError: Local changes are in the way, or something is under way.
    """
    variables = committing(wanted, as_author=False)
    async with place(repositories, wanted.path, "cherry-pick") as here:
        options = Options(settings=here.settings, variables=variables)
        if wanted.step != "start":
            _check_step(wanted.step, ("continue", "abort", "skip"))
            return await here.attempt.go_on(wanted.step, options)
        await here.attempt.require_none()
        if not 0 < len(wanted.revisions) <= REVISIONS_MAX:
            raise InvalidRequestError(f"revisions must be 1 to {REVISIONS_MAX}")
        words = [*PICK]
        if wanted.mainline is not None:
            words.append(f"--mainline={_parent(wanted.mainline)}")
        if wanted.no_commit:
            await require_clean_index(here.change)
            words.append("--no-commit")
        words += [
            await commit_of(repositories, here.repository, each)
            for each in wanted.revisions
        ]
        return await here.attempt.make(words, options, keep=wanted.keep_conflicts)


async def require_clean_index(change: Change) -> None:
    """See that nothing is staged, so that what fails can be taken back.

    Raises:
        ConflictError: Something is.
    """
    output = await change.run(
        *("diff", "--cached", "--quiet", "--no-ext-diff", "--ignore-submodules=dirty"),
        options=Options(ok=(0, 1)),
    )
    if output.code == 1:
        raise ConflictError("there are staged changes; commit them first", code=DIRTY)


def _parent(number: int) -> int:
    if number < 1:
        raise InvalidRequestError("mainline is the number of a parent, from 1")
    return number


def _check_step(step: str, allowed: Sequence[str]) -> None:
    if step not in allowed:
        raise InvalidRequestError(f"step must be start, {' or '.join(allowed)}")
