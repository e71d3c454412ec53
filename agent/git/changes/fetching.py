"""Fetches from a remote, and tells what that has changed."""

from collections.abc import Callable

from agent.errors import InvalidRequestError
from agent.git.access import Access, access_for, given_credentials
from agent.git.changes.models import FetchRequest, FetchResult, RefUpdate
from agent.git.progress import Progress, ProgressReader
from agent.git.refs import check_branch, check_remote
from agent.git.registry import Repositories
from agent.git.remotes import FETCH, urls_of
from agent.git.repository import Repository
from agent.wire import UNSET, printable

UPDATES_TOLD_MAX = 10_000
"""References that one answer names."""


class Fetch:
    """One fetch; `check`, then `make`.

    Args:
        repositories: The owner.
        wanted: What.
    """

    def __init__(self, repositories: Repositories, wanted: FetchRequest) -> None:
        self._repositories = repositories
        self._wanted = wanted
        self._repository: Repository | None = None
        self._access = Access()

    async def check(self) -> None:
        """See that it can be begun.

        Raises:
            InvalidRequestError: The arguments make no sense.
            NotFoundError: There is no such repository or remote.
            ConflictError: The repository would lead the request elsewhere.
        """
        wanted = self._wanted
        check_remote(wanted.remote)
        if wanted.branch is not None:
            check_branch(wanted.branch)
        if wanted.depth is not None and wanted.depth < 1:
            raise InvalidRequestError("depth must be 1 or more")
        repository = await self._repositories.find(wanted.path)
        self._access = await access_for(
            self._repositories,
            urls_of(repository, wanted.remote),
            given_credentials(wanted.username, wanted.password),
            repository,
        )
        self._repository = repository

    async def tell(self, tell: Callable[[Progress], None]) -> FetchResult:
        """Fetch, and tell of the progress, in a thread.

        Raises:
            AgentError: It failed; the kind says why.
        """
        return await self.make(ProgressReader(tell).feed)

    async def make(
        self, on_stderr: Callable[[bytes], None] | None = None
    ) -> FetchResult:
        """Fetch.

        Raises:
            AgentError: It failed; the kind says why.
        """
        repository = self._repository
        assert repository is not None  # noqa: S101 - `check` comes first
        async with self._repositories.changing(repository) as change:
            before = await self._refs(repository)
            options = self._access.options(on_stderr=on_stderr)
            await change.run(*self._words(), options=options)
            after = await self._refs(repository)
        changed = sorted(
            name for name in {*before, *after} if before.get(name) != after.get(name)
        )
        return FetchResult(
            updates=[
                RefUpdate(
                    ref=printable(name),
                    old_hash=before.get(name, UNSET),
                    new_hash=after.get(name, UNSET),
                )
                for name in changed[:UPDATES_TOLD_MAX]
            ],
            updates_count=len(changed),
        )

    def _words(self) -> list[str]:
        wanted = self._wanted
        words = [*FETCH]
        words += ["--prune"] if wanted.prune else []
        words += ["--tags"] if wanted.tags else []
        words += [f"--depth={wanted.depth}"] if wanted.depth else []
        words += ["--", wanted.remote]
        if wanted.branch is not None:
            name = f"refs/remotes/{wanted.remote}/{wanted.branch}"
            words.append(f"+refs/heads/{wanted.branch}:{name}")
        return words

    async def _refs(self, repository: Repository) -> dict[str, str]:
        listed = await self._repositories.read(
            repository, "for-each-ref", "--format=%(objectname) %(refname)"
        )
        pairs = (line.partition(" ") for line in listed.text.splitlines())
        return {name: number for number, _, name in pairs}
