"""The owner of what the git routes work with: runner, locks, journal, credentials.

    repository = await repositories.find(path)          # this one, never one around it
    output = await repositories.read(repository, "status", "-z")
    async with repositories.changing(repository) as change:
        await change.run("commit", "-F", "-", stdin=message)

Whatever changes a repository holds its one lock for as long as the block takes.
"""

import asyncio
import contextlib
import dataclasses
import errno
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from agent.errors import ConflictError, InvalidRequestError
from agent.files.paths import Paths, told_as
from agent.git.account import Account
from agent.git.configurations import Configurations, Signature, signature
from agent.git.credentials import CredentialDesk, CredentialStore
from agent.git.guards import Configuration, overrides
from agent.git.journal import Entry, Journal, Note
from agent.git.process import Output
from agent.git.repository import Repository, find, holds_repository
from agent.git.runner import PLAIN, Options, Runner
from agent.keeper.client import Keeper
from agent.settings import Settings


@dataclass
class Change:
    """A change of one repository that is under way; made by `Repositories.changing`."""

    runner: Runner
    repository: Repository | None
    note: Note
    account: Account
    dirty: bool = field(default=False, init=False)
    """A git of ours was killed, or had to be, and may have left locks."""

    async def run(
        self, *words: str, cwd: str = "/", options: Options = PLAIN
    ) -> Output:
        """Run a git that changes the repository.

        Raises:
            AgentError: It failed.
        """
        on_start = options.on_start
        self.account.ran(words[0])

        def started(pid: int) -> None:
            self.note.started(pid)
            if on_start is not None:
                on_start(pid)

        return await self.runner.run(
            words,
            repository=self.repository,
            cwd=cwd,
            options=dataclasses.replace(
                options, writes=True, on_start=started, on_end=self._ended
            ),
        )

    def _ended(self, output: Output) -> None:
        self.dirty = self.dirty or output.code < 0 or output.cancelled


class Repositories:
    """The repositories of the sandbox.

    Args:
        keeper: The api's line to the keeper.
        work_dir: The absolute directory that relative paths start from.
        settings: The agent's options.
    """

    def __init__(self, keeper: Keeper, work_dir: str, settings: Settings) -> None:
        self.paths = Paths(work_dir)
        self.desk = CredentialDesk()
        self.store = CredentialStore(keeper, settings.git_credentials_lifetime_s)
        self.runner = Runner(keeper, self.desk)
        self.settings = settings
        self._keeper = keeper
        self._configurations = Configurations()
        self._journal = Journal(settings.state_dir)
        self._state_dir = os.path.realpath(settings.state_dir)
        self._locks: dict[str, _Lock] = {}
        self._sweeping: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to clear up after agents that were killed."""
        self._sweeping = asyncio.create_task(self.runner.local.run(self._journal.sweep))

    async def aclose(self) -> None:
        """End what runs."""
        await self._swept()
        await self.runner.local.run(self._journal.close)
        await self.runner.aclose()
        await self.desk.aclose()

    async def find(self, path: str) -> Repository:
        """Return the repository whose root is `path`, with its guards.

        Raises:
            NotFoundError: There is none.
            InvalidRequestError: Its own files are links, or the path makes no sense.
            ConflictError: Its configuration cannot be read.
        """
        environment = await self._keeper.environment()
        found, state = await self.runner.local.run(self._find, path, environment)
        configuration = self._configurations.get(found, state)
        if configuration is None:
            listed = await self.runner.run(
                ("config", "--list", "--show-scope", "-z"), repository=found
            )
            configuration = Configuration.parse(listed.stdout)
            self._configurations.put(found, state, configuration)
        # A linked work tree may belong to a bare repository.
        is_bare = found.git_dir == found.common_dir and (
            configuration.last("core.bare", own=True) or ""
        ).lower() in {"true", "yes", "on", "1"}
        return dataclasses.replace(
            found,
            configuration=configuration,
            guards=tuple(overrides(configuration)),
            work_tree=None if is_bare else found.work_tree,
        )

    async def environment(self) -> Mapping[str, str]:
        """Return what new commands are started with."""
        return await self._keeper.environment()

    async def free_place(self, path: str) -> str:
        """Return the absolute path at which a repository is to be made.

        Raises:
            ConflictError: There is one already.
            NotADirectoryError: It is a file.
        """
        return await self.runner.local.run(self._free_place, path)

    async def find_with_files(self, path: str) -> Repository:
        """Return a repository that is not bare.

        Raises:
            AgentError: As `find`, or it is bare.
        """
        found = await self.find(path)
        found.require_work_tree()
        return found

    async def read(
        self, repository: Repository, *words: str, options: Options = PLAIN
    ) -> Output:
        """Run a git that only looks.

        Raises:
            AgentError: It failed.
        """
        return await self.runner.run(words, repository=repository, options=options)

    async def resolve_commit(self, repository: Repository, revision: str) -> str | None:
        """Return the hash of the commit that a revision names, or None."""
        return await self.resolve(repository, f"{revision}^{{commit}}")

    async def resolve(self, repository: Repository, revision: str) -> str | None:
        """Return the hash of the object that a revision names, or None."""
        output = await self.read(
            repository,
            *("rev-parse", "--verify", "--quiet", "--end-of-options", revision),
            options=Options(ok=(0, 1, 128)),
        )
        return output.text if output.code == 0 else None

    async def head_branch(self, repository: Repository) -> str | None:
        """Return the branch that is checked out, born or not; None when detached."""
        output = await self.read(
            repository, "symbolic-ref", "--quiet", "HEAD", options=Options(ok=(0, 1))
        )
        return output.text.removeprefix("refs/heads/") if output.code == 0 else None

    @contextlib.asynccontextmanager
    async def changing(self, repository: Repository) -> AsyncIterator[Change]:
        """Hold a repository's lock; what is run inside is journalled."""
        entry = Entry(
            git_dirs=[
                os.fsencode(each)
                for each in dict.fromkeys((repository.git_dir, repository.common_dir))
            ],
            work_tree=os.fsencode(repository.work_tree or ""),
        )
        async with (
            self.locked(repository.common_dir),
            self.noted(entry, repository) as change,
        ):
            yield change

    @contextlib.asynccontextmanager
    async def noted(
        self,
        entry: Entry,
        repository: Repository | None = None,
        on_failure: Callable[[Entry], None] | None = None,
    ) -> AsyncIterator[Change]:
        """Journal a change; `on_failure` undoes it, in a thread."""
        await self._swept()
        note = self._journal.note(entry)
        await self.runner.local.run(note.begin)
        place = entry.clone or entry.work_tree or entry.git_dirs[0]
        account = Account(self._keeper, place, self._state_dir)
        change = Change(self.runner, repository, note, account)
        try:
            yield change
            account.ended(None)
        except BaseException as error:
            account.ended(error)
            if on_failure is not None:
                await self.runner.local.run(on_failure, entry)
            raise
        finally:
            await self.runner.local.run(lambda: note.end(dirty=change.dirty))

    @contextlib.asynccontextmanager
    async def locked(self, name: str) -> AsyncIterator[None]:
        """Hold the lock of a repository, or of a configuration file, by name."""
        lock = self._locks.setdefault(name, _Lock())
        lock.wanted += 1
        try:
            async with lock.lock:
                yield
        finally:
            lock.wanted -= 1
            if not lock.wanted:
                del self._locks[name]

    def _find(
        self, path: str, environment: Mapping[str, str]
    ) -> tuple[Repository, Signature]:
        if not path:
            raise InvalidRequestError("path is required")
        with told_as(path):
            found = find(self.paths.resolve(path), path)
        # Before git is asked: what changes meanwhile is then seen the next time.
        return found, signature(found, environment)

    def _free_place(self, path: str) -> str:
        with told_as(path):
            place = os.path.realpath(self.paths.resolve(path))
            if os.path.lexists(place) and not os.path.isdir(place):
                raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
        if holds_repository(place):
            raise ConflictError(f"a repository exists already: {path}")
        return place

    async def _swept(self) -> None:
        if self._sweeping is not None:
            # Whoever waits may leave; the sweep goes on.
            await asyncio.shield(self._sweeping)


@dataclass
class _Lock:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wanted: int = 0
