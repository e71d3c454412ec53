"""What a change that met conflicts leaves, and how it is taken back.

By default a change that fails has changed nothing: it is aborted, and the answer names
the files that it could not bring together. Who asks for it gets the repository with its
conflicts, to resolve them and go on, or to abort later.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Literal

import msgspec

from agent.errors import ConflictError, InvalidRequestError
from agent.git.changes.models import Head, Identity
from agent.git.commits import identity_of
from agent.git.failures import failure_of
from agent.git.guards import Setting
from agent.git.registry import Change, Repositories
from agent.git.repository import Repository
from agent.git.runner import Options
from agent.wire import printable

MERGE_CONFLICT = "GIT_MERGE_CONFLICT"
DIRTY = "GIT_DIRTY_WORKTREE"
MESSAGE_MAX_BYTES = 64 * 1024
"""Of a message that git takes as an argument."""

Kind = Literal["merge", "rebase", "cherry-pick", "revert"]

MARKS: tuple[tuple[str, Kind], ...] = (
    ("rebase-merge", "rebase"),
    ("rebase-apply", "rebase"),
    ("CHERRY_PICK_HEAD", "cherry-pick"),
    ("REVERT_HEAD", "revert"),
    ("MERGE_HEAD", "merge"),
    ("sequencer", "cherry-pick"),
)
"""By what is in git's directory, what is under way."""

ONLY_CONFIGURED: Sequence[Setting] = (("user.useConfigOnly", "true"),)
"""Nobody is made up from the names of user and machine."""


class Conflicts(msgspec.Struct, frozen=True, kw_only=True):
    """The files that could not be brought together.

    Attributes:
        kind: What met them.
        files: Their names.
        kept: The repository has been left with them.
    """

    kind: str
    files: list[str]
    kept: bool

    @property
    def message(self) -> str:
        """What people are told."""
        end = "resolve them and continue, or abort" if self.kept else "nothing changed"
        return f"{self.kind} met conflicts in {len(self.files)} files; {end}"


Outcome = Head | Conflicts


def underway(git_dir: str) -> Kind | None:
    """Return what was begun in a repository and has not ended; looks at the disk."""
    for name, kind in MARKS:
        if os.path.lexists(os.path.join(git_dir, name)):
            return kind
    return None


class Attempt:
    """One change that may meet conflicts, in a repository that is locked.

    Args:
        repositories: The owner.
        change: Runs git.
        repository: Which.
        kind: What is tried.
    """

    def __init__(
        self,
        repositories: Repositories,
        change: Change,
        repository: Repository,
        kind: Kind,
    ) -> None:
        self._repositories = repositories
        self._change = change
        self._repository = repository
        self._kind = kind

    async def require_none(self) -> None:
        """See that nothing is under way.

        Raises:
            ConflictError: Something is.
        """
        found = await self._underway()
        if found is not None:
            raise ConflictError(
                f"a {found} is under way; continue or abort it first",
                code=MERGE_CONFLICT,
            )

    async def require_this(self) -> None:
        """See that a change of this kind is under way.

        Raises:
            ConflictError: None is.
        """
        if await self._underway() != self._kind:
            raise ConflictError(f"no {self._kind} is under way")

    async def _underway(self) -> Kind | None:
        threads = self._repositories.runner.local
        return await threads.run(underway, self._repository.git_dir)

    async def head(self) -> str:
        """Return the hash of HEAD; nothing before the first commit."""
        found = await self._repositories.resolve_commit(self._repository, "HEAD")
        return found or ""

    async def make(
        self, words: Sequence[str], options: Options, *, keep: bool
    ) -> Outcome:
        """Run git; what meets conflicts is aborted, unless it is to be kept.

        Raises:
            AgentError: It failed otherwise; nothing has changed.
        """
        before = await self.head()
        options = dataclasses.replace(options, ok=(0, 1, 128))
        output = await self._change.run(*words, options=options)
        if output.code == 0:
            after = await self.head()
            return Head(hash=after, changed=after != before)
        files = await self.unmerged()
        if files and keep:
            return Conflicts(kind=self._kind, files=files, kept=True)
        if files or await self._underway() is not None:
            await self.abort(options.settings)
        if not files:
            raise failure_of(output)
        return Conflicts(kind=self._kind, files=files, kept=False)

    async def go_on(self, step: str, options: Options) -> Outcome:
        """Continue, skip or abort what is under way.

        Raises:
            ConflictError: None is.
            AgentError: It failed; it is still under way.
        """
        await self.require_this()
        before = await self.head()
        options = dataclasses.replace(options, ok=(0, 1, 128))
        output = await self._change.run(self._kind, f"--{step}", options=options)
        if output.code == 0:
            after = await self.head()
            return Head(hash=after, changed=after != before)
        files = await self.unmerged()
        if not files:
            raise failure_of(output)
        return Conflicts(kind=self._kind, files=files, kept=True)

    async def abort(self, settings: Sequence[Setting]) -> None:
        """Take back what has been done so far.

        Raises:
            AgentError: It cannot be.
        """
        words = ["reset", "--quiet", "--merge"]
        if await self._underway() is not None:
            words = [self._kind, "--abort"]
        await self._change.run(*words, options=Options(settings=settings))

    async def unmerged(self) -> list[str]:
        """Return the files with conflicts."""
        output = await self._change.run(
            *("diff", "--name-only", "--diff-filter=U", "-z", "--no-ext-diff"),
            *("--no-relative", "--ignore-submodules=dirty"),
        )
        return names_in(output.stdout)


def names_in(listed: bytes) -> list[str]:
    """Return names that git has told with NUL between them, each once."""
    names = dict.fromkeys(listed.split(b"\0"))
    return [printable(os.fsdecode(each)) for each in names if each]


def committing(given: Identity, *, as_author: bool) -> dict[str, str]:
    """Return the variables that say who commits; empty: git's configuration says it.

    Raises:
        InvalidRequestError: Only half of it is given, or there is nothing in it.
    """
    if given.author is None and given.email is None:
        return {}
    if given.author is None or given.email is None:
        raise InvalidRequestError("author and email are given together or not at all")
    name, email = identity_of((given.author, given.email))
    found = {"GIT_COMMITTER_NAME": name, "GIT_COMMITTER_EMAIL": email}
    if as_author:
        found |= {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": email}
    return found


def check_message(message: str | None) -> str:
    """Return a message that git can take as an argument; empty: its own.

    Raises:
        InvalidRequestError: It is too long, or holds a NUL character.
    """
    if message is None:
        return ""
    if "\0" in message or len(message.encode()) > MESSAGE_MAX_BYTES:
        raise InvalidRequestError(
            f"a message has no NUL, and at most {MESSAGE_MAX_BYTES} bytes"
        )
    return message
