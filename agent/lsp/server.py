"""One language server: its process, its documents, its crashes (contract 40 §8).

    new --start--> opening --initialized--> ready --exit or junk--> dead
    dead --next question--> opening           (at once, then slower; a few a minute)
    any --stop--> stopped

Opening is one task that all who want the server wait for. Documents belong to the server
and not to its process, so that a restart is nobody's business.
"""

import asyncio
import contextlib
import os
import time

import msgspec

from agent.errors import AgentError, InvalidRequestError, TimeLimitError
from agent.keeper.client import Fact
from agent.lsp.candidates import (
    Family,
    Found,
    installed,
    no_server,
    virtual_environment,
)
from agent.lsp.child import Child, Command, Hooks
from agent.lsp.client import (
    METHOD_NOT_FOUND,
    Answer,
    Client,
    Line,
    RefusedError,
    make_line,
)
from agent.lsp.crashes import CRASH_WINDOW_S, Crashes
from agent.lsp.documents import Document, Documents
from agent.lsp.following import Disk
from agent.lsp.ground import Ground, not_initialized
from agent.lsp.initialization import answers, initialize_params, settings_of
from agent.lsp.messages import UnreadableError, plain
from agent.lsp.places import Project
from agent.lsp.published import Published
from agent.lsp.quirks import (
    PROJECT_WIDE,
    SET_UP_FOR_PACKAGES,
    SLOW_TO_DISCOVER,
    TSSERVER,
    hands_on,
)
from agent.lsp.symbol_index import SymbolIndex
from agent.wire import printable

HURRY_S = 1.0, 0.5
"""For the answer to `shutdown`, and for its exit, when the agent itself is ending."""
OUTPUT_LIMIT_S = 0.5
"""For what a server wrote before it ended."""
RETRIED = frozenset({-32801, -32802})
"""ContentModified, ServerCancelled: the server asks to be asked again."""
RETRIES = 3
DISCOVERED_MAX = 64
"""New files that are opened before a question about all files."""


class LanguageServer:
    """The server of one project and family.

    Args:
        family: Its languages.
        project: Its directory.
        ground: What it is started with.

    Attributes:
        documents: What it has open.
        disk: Tells it what changes beside that.
        published: The diagnostics that it told of its own accord.
        capabilities: What it said it can do.
        found: Which program it is, once one came up.
        index: Workspace symbols of our own, for servers that have none.
        last_error: Why it ended, or could not be started.
    """

    def __init__(self, family: Family, project: Project, ground: Ground) -> None:
        self.family = family
        self.project = project
        self.ground = ground
        self.published = Published()
        self.disk = Disk(project, family, ground.threads)
        self.documents = Documents(
            ground.threads, lambda: (self.published.count, self.disk.count)
        )
        self.capabilities: dict[str, object] = {}
        self.found: Found | None = None
        self.last_error = ""
        self.ready_at = 0.0
        self.restarts = 0
        self.index: SymbolIndex | None = None
        if family.index:
            self.index = SymbolIndex(project, ground.threads, ground.environment)
        self._settings: dict[str, object] = {}
        self._venv: str | None = None
        self._client: Client | None = None
        self._opening: asyncio.Task[Client] | None = None
        self._crashes = Crashes()
        self._burials: set[asyncio.Task[None]] = set()
        self._stopped = False

    # -- life ---------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """Its process, if it runs."""
        return self._client.child.pid if self._is_healthy() and self._client else None

    @property
    def state(self) -> str:
        """What it is doing."""
        if self._opening is not None:
            return "starting"
        if self._is_healthy():
            return "ready"
        return "stopped" if self._stopped else "crashed"

    @property
    def age_s(self) -> float:
        """For how long it has been ready."""
        return time.monotonic() - self.ready_at

    def _is_healthy(self) -> bool:
        client = self._client
        return (
            client is not None
            and client.failure is None
            and not client.child.exited.is_set()
        )

    async def start(self) -> None:
        """Have it run; its crashes so far are forgotten.

        Raises:
            AgentError: No server is installed, or none came up.
        """
        if not self._is_healthy():
            self._crashes.forget()
        await self.ready()

    async def ready(self) -> Client:
        """Return the client of a running server, restarted if it died.

        Raises:
            AgentError: It does not come up, or was stopped.
        """
        if self._stopped:
            raise not_initialized(self.family.name, self.project)
        if self._client is not None and self._is_healthy():
            return self._client
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(self._opened)
        opening = self._opening
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            if opening.cancelled() and self._stopped:
                raise not_initialized(self.family.name, self.project) from None
            raise

    async def current(self) -> Client:
        """Return the client of a running server that knows what is on the disk.

        Raises:
            AgentError: As `ready`.
        """
        client = await self.ready()
        await self.disk.tell(client, self.documents)
        return await self._see_packages(client) if self.disk.packages else client

    async def _see_packages(self, client: Client) -> Client:
        """Return the client of a server that knows which packages there are now."""
        self.disk.packages = False
        venv = await self.ground.threads.run(virtual_environment, self.project.path)
        if venv != self._venv and client is self._client:
            # Which environment is the project's is told at the start only.
            self._client = None
            limits = self.ground.configuration.limits
            await client.say_goodbye(limits.shutdown, limits.exit)
            client.fail(AgentError("the project has another virtual environment now"))
            await client.child.end()
            return await self.ready()
        if self.name in SET_UP_FOR_PACKAGES:
            await client.notify(
                "workspace/didChangeConfiguration", {"settings": self._settings}
            )
        return client

    @property
    def name(self) -> str:
        """What its program is called."""
        return self.found.candidate.name if self.found else "the server"

    def _opened(self, task: asyncio.Task[Client]) -> None:
        self._opening = None
        if not task.cancelled() and (error := task.exception()) is not None:
            # Looked at here, because everybody who waited may have left.
            self.last_error = str(error)

    async def stop(self, *, hurry: bool = False) -> None:
        """End it, politely first; returns when nothing of it is left.

        Args:
            hurry: The agent itself is about to end.
        """
        self._stopped = True
        if self.index is not None:
            await self.index.aclose()
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._client is not None:
            client = self._client
            if self._is_healthy():
                limits = self.ground.configuration.limits
                within = HURRY_S if hurry else (limits.shutdown, limits.exit)
                await client.say_goodbye(*within)
            client.fail(AgentError("the language server was stopped"))
            await client.child.end()
            self._report("stopped", pid=client.child.pid)
        await asyncio.gather(*self._burials)
        await self.disk.aclose()

    # -- opening ------------------------------------------------------------------

    async def _open(self) -> Client:
        if self._crashes.are_too_many:
            raise AgentError(
                f"the language server of {self.project.path} crashed"
                f" {self._crashes.recent} times within {CRASH_WINDOW_S:g} s;"
                f" start it again: {self.last_error}"
            )
        await asyncio.sleep(self._crashes.pause_s)
        environment = await self.ground.environment()
        is_there = await self.ground.threads.run(os.path.isdir, self.project.path)
        if not is_there:
            raise InvalidRequestError(
                f"project is not a directory: {self.project.path}"
            )
        # Before the server looks at the disk for itself, so that nothing is missed.
        await self.disk.begin()
        reasons = []
        for found in await self._choices(environment):
            try:
                return await self._launch(found, environment)
            except (OSError, AgentError, UnreadableError) as error:
                reasons.append(f"{found.candidate.name}: {error}")
                self._crashes.note()
        raise no_server(self.family, reasons)

    async def _choices(self, environment: dict[str, str]) -> list[Found]:
        if self.found is not None:
            # What ran before runs again, so that answers stay those of one server.
            return [self.found]
        return await self.ground.threads.run(
            installed, self.family, self.project.path, environment.get("PATH", "")
        )

    async def _launch(self, found: Found, environment: dict[str, str]) -> Client:
        client = Client(broken=lambda: self._died(client))
        venv = await self.ground.threads.run(virtual_environment, self.project.path)
        choice = self.ground.configuration.choice(self.family)
        settings = settings_of(found.candidate.name, venv, choice)
        told: dict[str, Answer] = answers(self.project, settings)
        # While the server starts, because its first use takes as long as that.
        line = asyncio.ensure_future(
            self.ground.threads.run(make_line, client.write, told, self._told)
        )
        line.add_done_callback(_looked_at)
        command = Command(
            words=found.words,
            cwd=self.project.path,
            environment=environment
            | ({"VIRTUAL_ENV": venv} if venv else {})
            | choice.environment,
        )
        hooks = Hooks(received=client.received, exited=lambda: self._died(client))
        child = await Child.start(command, hooks, self.ground.threads, client.attach)
        again = self._client is not None
        self._report("restarted" if again else "started", pid=child.pid)
        try:
            client.speak(await line)
            await self._initialize(client, found, settings, venv)
        except BaseException as error:
            await child.end()
            self._report("failed", pid=child.pid, reason=child.ending)
            if isinstance(error, TimeLimitError):
                raise AgentError(f"{error.message}; {child.last_words}") from error
            raise
        self.restarts += self._client is not None
        self._report("ready", pid=child.pid, restarts=self.restarts)
        self._client, self.found = client, found
        self.ready_at = time.monotonic()
        return client

    async def _initialize(
        self,
        client: Client,
        found: Found,
        settings: dict[str, object],
        venv: str | None,
    ) -> None:
        choice = self.ground.configuration.choice(self.family)
        params = initialize_params(
            self.project, found.candidate.name, venv, choice.initialization_options
        )
        limit_s = self.ground.configuration.limits.initialize
        result = plain(await client.ask("initialize", params, limit_s))
        told = result.get("capabilities") if isinstance(result, dict) else None
        self.capabilities = told if isinstance(told, dict) else {}
        self._settings, self._venv = settings, venv
        await client.notify("initialized", {})
        if settings:
            await client.notify(
                "workspace/didChangeConfiguration", {"settings": settings}
            )
        self.published.clear()
        await self.documents.reopen(client)

    # -- death --------------------------------------------------------------------

    def _died(self, client: Client) -> None:
        task = asyncio.create_task(self._bury(client))
        self._burials.add(task)
        task.add_done_callback(self._burials.discard)

    async def _bury(self, client: Client) -> None:
        child = client.child
        if client.failure is None:
            await child.said_all(OUTPUT_LIMIT_S)
        words = f": {child.last_words}" if child.last_words else ""
        error = AgentError(f"the language server ended ({child.ending}){words}")
        if client is self._client and not self._stopped:
            self.last_error = str(client.failure or error)
            self._crashes.note()
            self._report("crashed", pid=child.pid, reason=child.ending)
        client.fail(error)
        await child.end()

    def _report(self, what: str, **facts: Fact) -> None:
        """Tell the timeline what has become of it."""
        language, project = self.family.name, printable(self.project.path)
        self.ground.tell(f"lsp.{what}", language=language, project=project, **facts)

    def _told(self, method: str, params: msgspec.Raw) -> None:
        if method == "textDocument/publishDiagnostics":
            self.published.take(plain(params))

    # -- questions ----------------------------------------------------------------

    async def ask(self, method: str, params: object) -> msgspec.Raw:
        """Ask about the whole project; all open documents are as on the disk.

        Raises:
            AgentError: As `Client.ask`.
        """
        client = await self.current()
        await self.documents.refresh(client)
        return await self._ask(client, method, params)

    async def ask_of(
        self, method: str, path: str, language: str, params: dict[str, object]
    ) -> msgspec.Raw:
        """Ask about one document, which is opened if it is not open.

        Raises:
            InvalidRequestError: The file cannot be read.
            AgentError: As `Client.ask`.
        """
        document = await self.open(path, language, asked=False)
        about = {"textDocument": {"uri": document.uri}, **params}
        return await self._ask(await self.ready(), method, about)

    async def open(self, path: str, language: str, *, asked: bool) -> Document:
        """Have a document open, as it is on the disk.

        Raises:
            InvalidRequestError: The file cannot be read.
            AgentError: The server does not come up.
        """
        client = await self.current()
        language = self.family.language_of(path, language)
        return await self.documents.open(client, path, language, asked=asked)

    async def set_text(self, path: str, language: str, text: str) -> int:
        """Have a document open with a text that is not on the disk; return its version.

        Raises:
            TooLargeError: It is past the limit.
            AgentError: The server does not come up.
        """
        client = await self.current()
        language = self.family.language_of(path, language)
        return await self.documents.set_text(client, path, language, text)

    async def close(self, path: str) -> None:
        """Close a document; one that is not open is fine."""
        client = self._client if self._is_healthy() else None
        await self.documents.close(client, path)
        self.published.forget(path)

    async def _ask(self, client: Client, method: str, params: object) -> msgspec.Raw:
        limit_s = self.ground.configuration.limits.request
        if method in PROJECT_WIDE and self.disk.unknown:
            await self._discover(client)
        for attempt in range(RETRIES):
            try:
                return await client.ask(method, params, limit_s)
            except RefusedError as error:
                if error.number == METHOD_NOT_FOUND:
                    words = f"{self.name} cannot do {method}"
                    raise RefusedError(words, error.number) from error
                if error.number not in RETRIED or attempt == RETRIES - 1:
                    raise
        raise AssertionError

    async def _discover(self, client: Client) -> None:
        """Have the server know the files that came and went."""
        unknown, self.disk.unknown = self.disk.unknown, set()
        if self.name in SLOW_TO_DISCOVER:
            for path in sorted(unknown)[:DISCOVERED_MAX]:
                with contextlib.suppress(InvalidRequestError):
                    await self.open(path, self.family.name, asked=False)
        elif hands_on(self.capabilities):
            params = {"command": TSSERVER, "arguments": ["reloadProjects"]}
            await client.ask(
                "workspace/executeCommand",
                params,
                self.ground.configuration.limits.request,
            )

    def offers(self, capability: str) -> bool:
        """Tell whether it said that it can do something."""
        value = self.capabilities.get(capability)
        return value is not None and value is not False


def _looked_at(line: "asyncio.Future[Line]") -> None:
    """Look at how it ended, for when the server did not start and nobody waits."""
    if not line.cancelled():
        line.exception()
