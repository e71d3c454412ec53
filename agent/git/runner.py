"""Runs the git program: every call of this room passes here, guards and all.

    output = await runner.run(["status", "-z"], repository=repository)

Reads run beside each other. What changes a repository is run by a `Change`, which holds
the repository's one lock and has told the journal (`registry.py`).
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.errors import AgentError, UnavailableError
from agent.files.threads import Threads
from agent.git.credentials import CredentialDesk, Grant, forms_of, settings_of
from agent.git.environment import READING, unsetting, variables
from agent.git.failures import Redaction, failure_of, is_locked
from agent.git.guards import ALWAYS, Configuration, Setting
from agent.git.process import Call, Output, Process
from agent.git.repository import Repository
from agent.git.standstill import Standstill
from agent.keeper.client import Keeper

LOCAL_THREADS = 8
"""Calls at once that stay on this machine; more wait their turn."""
NETWORK_THREADS = 8
"""Calls at once that talk to remotes, which may take hours."""
ANSWER_MAX_BYTES = 256 * 1024 * 1024
"""Of what git may print in answer to one question; a status of a million files."""
LAST_CALL_S = 1.0
"""For what runs when the agent stops; git then has another second to clear up."""
LOCK_PAUSES_S = (0.1, 0.2, 0.4, 0.8)
"""Before each further attempt while somebody else holds a lock."""
NO_REPOSITORY = Configuration()


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a call runs.

    Attributes:
        stdin: What git reads.
        ok: The exit codes that are no failure.
        settings: Further configuration that wins over every file.
        variables: Further variables of git's.
        writes: It changes the repository, so it may take locks.
        grant: Credentials that its helper may be given.
        own_helpers: Only the agent's helper is asked, and no configured one.
        on_start: Told the process id.
        on_stderr: Told what git says, as it comes, in a thread.
        secrets: What no message may hold.
    """

    stdin: bytes = b""
    ok: tuple[int, ...] = (0,)
    settings: Sequence[Setting] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    writes: bool = False
    network: bool = False
    grant: Grant | None = None
    on_start: Callable[[int], None] | None = None
    on_stderr: Callable[[bytes], None] | None = None
    on_end: Callable[[Output], None] | None = None
    secrets: tuple[str, ...] = ()


PLAIN = Options()


class Runner:
    """Starts gits, bounds them, and ends those that are left at the end.

    Args:
        keeper: Knows the environment of new commands.
        desk: Answers git's questions for credentials.
    """

    def __init__(self, keeper: Keeper, desk: CredentialDesk) -> None:
        self._keeper = keeper
        self._desk = desk
        self.local = Threads("git", LOCAL_THREADS)
        self._network = Threads("git-network", NETWORK_THREADS)
        self._running: set[Process] = set()
        self._last_call: asyncio.TimerHandle | None = None
        self._ending = False

    def end_soon(self) -> None:
        """Give what runs a moment, then end it: a clone may have hours to go."""
        loop = asyncio.get_running_loop()
        self._last_call = loop.call_later(LAST_CALL_S, self._end)

    def _end(self) -> None:
        self._ending = True
        for each in self._running:
            each.cancel()

    async def aclose(self) -> None:
        """End all that runs."""
        if self._last_call is not None:
            self._last_call.cancel()
        self._end()
        await self.local.aclose()
        await self._network.aclose()

    async def run(
        self,
        words: Sequence[str],
        *,
        repository: Repository | None = None,
        cwd: str = "/",
        options: Options = PLAIN,
    ) -> Output:
        """Run git to its end; cancelling asks it to end, and waits for that.

        Args:
            words: The command and its arguments, callers' words behind `--`.
            repository: In which; none: git is not to look for one.
            cwd: Where, when there is no repository.
            options: How.

        Raises:
            AgentError: It failed; the kind says why.
        """
        pauses = iter(LOCK_PAUSES_S)
        while True:
            if self._ending:
                raise UnavailableError("the agent is shutting down")
            call = await self.prepare(words, repository, cwd, options)
            output = await self._attend(Process(call), options)
            if output.code in options.ok and not output.cancelled:
                return output
            pause = next(pauses, None)
            if pause is None or not options.writes or not is_locked(output):
                raise failure_of(output, Redaction(self._secrets(options)))
            await asyncio.sleep(pause)

    async def stream(
        self,
        words: Sequence[str],
        *,
        repository: Repository,
        options: Options = PLAIN,
    ) -> AsyncGenerator[bytes, None]:
        """Give what a git that only reads prints, as fast as it is taken.

        Raises:
            AgentError: It failed; when that is before its first word, at the first step.
        """
        process = Process(await self.prepare(words, repository, "/", options))
        self._running.add(process)
        try:
            await self.local.run(process.start)
            while (block := await self.local.run(process.step)) is not None:
                yield block
        finally:
            code = await self.local.run(process.finish)
            self._running.discard(process)
        output = Output(code, b"", process.stderr, process.cancelled)
        if code not in options.ok or process.cancelled:
            raise failure_of(output)

    async def prepare(
        self,
        words: Sequence[str],
        repository: Repository | None,
        cwd: str,
        options: Options,
    ) -> Call:
        """Return a call with all guards in its environment."""
        found = await self._configuration(repository, options)
        settings = [*ALWAYS, *await self._helpers(found, options)]
        place: list[str] = []
        if repository is not None:
            settings += [
                *repository.guards,
                ("safe.directory", repository.root),
                ("safe.directory", repository.git_dir),
            ]
            place = repository.words
            cwd = repository.root
        environment = variables(
            await self._keeper.environment(),
            [*settings, *options.settings],
            owner_tag=self._keeper.owner_tag,
            ssh_command=found.ssh_command,
            extra={**({} if options.writes else READING), **options.variables},
        )
        line = ["git", "--no-pager", "--literal-pathspecs", *place, *words]
        return Call(
            words=[*unsetting(environment), *line],
            cwd=cwd,
            environment=environment,
            stdin=options.stdin,
            stdout_max_bytes=ANSWER_MAX_BYTES,
            on_start=lambda pid: self._started(pid, options),
            on_stderr=options.on_stderr,
            standstill=_standstill(repository, options),
        )

    async def _configuration(
        self, repository: Repository | None, options: Options
    ) -> Configuration:
        """Return what git would heed; the user's own, where there is no repository yet."""
        if repository is not None:
            return repository.configuration
        if not options.network:
            return NO_REPOSITORY
        listed = await self.run(("config", "--list", "--show-scope", "-z"))
        return Configuration.parse(listed.stdout)

    async def _helpers(
        self, configuration: Configuration, options: Options
    ) -> list[Setting]:
        if options.grant is None:
            return settings_of(configuration.helpers())
        await self._desk.open()
        # No other one beside it: git would tell it what it has used, to be kept.
        return settings_of([("credential.helper", self._desk.helper())])

    def _started(self, pid: int, options: Options) -> None:
        if options.grant is not None:
            self._desk.grant(pid, options.grant)
        if options.on_start is not None:
            options.on_start(pid)

    async def _attend(self, process: Process, options: Options) -> Output:
        threads = self._network if options.network else self.local
        self._running.add(process)
        running = asyncio.ensure_future(threads.run(process.run))
        try:
            output = await asyncio.shield(running)
        except asyncio.CancelledError:
            process.cancel()
            with contextlib.suppress(Exception):
                ended = await _end_of(running)
                if options.on_end is not None:
                    options.on_end(ended)
            raise
        except AgentError:
            # Ended by us, for what it wrote or waited for.
            if options.on_end is not None:
                options.on_end(Output(-1, b"", b"", cancelled=True))
            raise
        finally:
            self._running.discard(process)
            if options.grant is not None:
                self._desk.revoke(process.pid)
        if options.on_end is not None:
            options.on_end(output)
        return output

    @staticmethod
    def _secrets(options: Options) -> list[str]:
        granted = forms_of(options.grant.credentials) if options.grant else []
        return [*granted, *options.secrets]


def _standstill(repository: Repository | None, options: Options) -> Standstill:
    if repository is None:
        return Standstill()
    return Standstill(
        git_dirs=(repository.git_dir, repository.common_dir),
        # What talks to a remote may be slow for hours, and reads none of the files.
        work_tree="" if options.network else repository.work_tree or "",
    )


async def _end_of(running: "asyncio.Future[Output]") -> Output:
    """Wait for the end of what was asked to end, however often we are cancelled."""
    while not running.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([running])
    return running.result()


def pathspecs(names: Iterable[str]) -> bytes:
    """Return what `--pathspec-from-file=- --pathspec-file-nul` reads."""
    return b"".join(os.fsencode(name) + b"\0" for name in names)


FROM_STDIN = ("--pathspec-from-file=-", "--pathspec-file-nul")
