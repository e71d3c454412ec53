"""Clones: the whole of one, or nothing."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from agent.errors import ConflictError, InvalidRequestError, NotFoundError
from agent.git.access import Access, access_for
from agent.git.credentials import Credentials, split_user_info
from agent.git.journal import Entry, remove_clone
from agent.git.progress import Progress, ProgressReader
from agent.git.refs import SCP_LIKE, check_branch, check_commit_id, check_url
from agent.git.registry import Change, Repositories
from agent.git.repository import Repository, holds_repository
from agent.git.runner import Options


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to clone, and how."""

    url: str
    path: str
    branch: str = ""
    commit_id: str = ""
    credentials: Credentials | None = None
    skip_tls: bool = False
    depth: int = 0


class Clone:
    """One clone; `check`, then `make`.

    Args:
        repositories: The owner.
        wanted: What.
    """

    def __init__(self, repositories: Repositories, wanted: Wanted) -> None:
        self._repositories = repositories
        self._wanted = wanted
        self._reader: ProgressReader | None = None
        self._target = ""
        self._url = ""
        self._access = Access()

    async def check(self) -> None:
        """See that it can be begun.

        Raises:
            InvalidRequestError: The arguments make no sense.
            ConflictError: There is something at the destination.
        """
        wanted = self._wanted
        if wanted.depth < 0:
            raise InvalidRequestError("depth must not be negative")
        if wanted.branch:
            check_branch(wanted.branch)
        if wanted.commit_id:
            check_commit_id(wanted.commit_id)
        self._target = await self._repositories.free_place(wanted.path)
        bare_url, in_url = split_user_info(wanted.url)
        self._url = await self._repositories.runner.local.run(self._address, bare_url)
        self._access = await access_for(
            self._repositories, [self._url], wanted.credentials or in_url
        )

    def _address(self, url: str) -> str:
        """Return what git is given; looks whether there is a directory of that name."""
        check_url(url)
        if "://" in url or SCP_LIKE.match(url):
            return url
        local = self._repositories.paths.resolve(url)
        return local if os.path.isdir(local) else f"https://{url}"

    async def make(self, tell: Callable[[Progress], None] | None = None) -> None:
        """Clone; whatever fails, what was made is removed again.

        Args:
            tell: Called with the progress, in a thread.

        Raises:
            AgentError: It failed; the kind says why.
        """
        self._reader = ProgressReader(tell) if tell else None
        repositories, target = self._repositories, self._target
        entry = Entry(clone=os.fsencode(target), git_dirs=[])
        async with repositories.locked(target):
            # Somebody may have come first while we waited.
            await repositories.runner.local.run(
                _look_at_place, entry, self._wanted.path
            )
            async with repositories.noted(entry, on_failure=remove_clone) as change:
                await change.run(*self._words(), options=self._options())
                await self._complete(change)

    def _words(self) -> list[str]:
        wanted = self._wanted
        words = ["clone", "--progress", "--single-branch", "--no-recurse-submodules"]
        words += ["--origin=origin", "--upload-pack=git-upload-pack"]
        words += [f"--branch={wanted.branch}"] if wanted.branch else []
        # A local clone would ignore the depth.
        words += [f"--depth={wanted.depth}", "--no-local"] if wanted.depth else []
        words += ["--no-checkout"] if wanted.commit_id else []
        return [*words, "--", self._url, self._target]

    def _options(self, *, ok: tuple[int, ...] = (0,)) -> Options:
        tls = [("http.sslVerify", "false")] if self._wanted.skip_tls else []
        return self._access.options(
            ok=ok,
            settings=tls,
            on_stderr=self._reader.feed if self._reader else None,
        )

    async def _complete(self, change: Change) -> None:
        """Fetch all tags, and check the wanted commit out."""
        repositories, wanted = self._repositories, self._wanted
        repository = await repositories.find(self._target)
        change.repository = repository
        if not await repositories.resolve_commit(repository, "HEAD"):
            if wanted.commit_id:
                raise NotFoundError(f"commit not found: {wanted.commit_id}")
            return
        depth = [f"--depth={wanted.depth}"] if wanted.depth else []
        fetch = ["fetch", "--progress", "--no-recurse-submodules", *depth]
        await change.run(*fetch, "--tags", "--", "origin", options=self._options())
        if not wanted.commit_id:
            return
        commit = await self._commit(change, repository, fetch)
        await change.run(
            *("checkout", "--progress", "--detach", commit, "--"),
            options=Options(on_stderr=self._reader.feed if self._reader else None),
        )

    async def _commit(
        self, change: Change, repository: Repository, fetch: list[str]
    ) -> str:
        """Return the wanted commit's hash, asking the remote for it if it must be.

        Raises:
            NotFoundError: The remote does not have it, or does not give it.
        """
        wanted = self._wanted.commit_id
        found = await self._repositories.resolve_commit(repository, wanted)
        if found is None and re.fullmatch(r"[0-9a-fA-F]{40}|[0-9a-fA-F]{64}", wanted):
            await change.run(
                *(*fetch, "--no-tags", "--", "origin", wanted),
                options=self._options(ok=(0, 1, 128)),
            )
            found = await self._repositories.resolve_commit(repository, wanted)
        if found is None:
            raise NotFoundError(f"commit not found: {wanted}")
        return found


def _look_at_place(entry: Entry, shown: str) -> None:
    """Note what the clone will make.

    Raises:
        ConflictError: There is something already.
    """
    target = os.fsdecode(entry.clone)
    check_place(target, shown)
    entry.made = not os.path.isdir(target)
    above = os.path.dirname(target)
    while not os.path.isdir(above):
        entry.parents.append(os.fsencode(above))
        above = os.path.dirname(above)


def check_place(target: str, shown: str) -> None:
    """See that there is nothing at a place but perhaps an empty directory.

    Raises:
        ConflictError: There is.
        NotADirectoryError: It is a file.
    """
    try:
        names = os.listdir(target)
    except FileNotFoundError:
        return
    if holds_repository(target):
        raise ConflictError(f"a repository exists already: {shown}")
    if names:
        raise ConflictError(f"directory is not empty: {shown}")
