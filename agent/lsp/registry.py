"""The owner of all language servers: one for each project and family."""

import asyncio
import os
from dataclasses import dataclass

from agent.errors import InvalidRequestError
from agent.files.paths import Paths
from agent.files.threads import Threads
from agent.keeper.client import Keeper
from agent.lsp.candidates import Family, family_of
from agent.lsp.configuration import Configuration, default_file, read
from agent.lsp.ground import Ground, not_initialized
from agent.lsp.places import Places, Project, uri_of
from agent.lsp.server import LanguageServer

THREADS = 4
"""For looking at files and mapping long answers."""

PROJECTS_MAX = 256
"""Whose real paths are remembered, in case that they are removed."""

Key = tuple[str, str]


@dataclass(frozen=True)
class Subject:
    """A document of a caller, and the server that knows of it.

    Attributes:
        server: The server.
        path: The document.
        language: What the caller says it is.
    """

    server: LanguageServer
    path: str
    language: str

    @property
    def uri(self) -> str:
        """The document as it is told."""
        return uri_of(self.path)


class LanguageServers:
    """The language servers of the sandbox.

    Args:
        keeper: Knows the environment of new processes.
        work_dir: The absolute directory that relative paths start from.
        configuration: A file; empty: where it is looked for by default.
    """

    def __init__(self, keeper: Keeper, work_dir: str, configuration: str = "") -> None:
        self._keeper = keeper
        self._file = configuration
        self._configuration: Configuration | None = None
        self._places = Places(Paths(work_dir))
        self._servers: dict[Key, LanguageServer] = {}
        self._keys: dict[str, str] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.threads = Threads("lsp", THREADS)

    def __len__(self) -> int:
        """Return how many servers there are."""
        return len(self._servers)

    async def aclose(self) -> None:
        """Stop all servers, at once and in a hurry."""
        servers = list(self._servers.values())
        self._servers.clear()
        await asyncio.gather(
            *(each.stop(hurry=True) for each in servers), *self._closing
        )
        await self.threads.aclose()

    async def environment(self) -> dict[str, str]:
        """Return what a server is started with."""
        environment = await self._keeper.environment()
        return environment | {"TOOLBOX_OWNER": self._keeper.owner_tag}

    async def configuration(self, *, afresh: bool = False) -> Configuration:
        """Return the user's own word, read at the first question and at each start.

        Raises:
            AgentError: The file cannot be read.
        """
        if self._configuration is None or afresh:
            path = self._file or default_file(await self._keeper.environment())
            self._configuration = await self.threads.run(read, path)
        return self._configuration

    async def start(self, language: str, given: str) -> LanguageServer:
        """Have the server of a project run, as it does already or anew.

        Raises:
            InvalidRequestError: No such language, or the project is no directory.
            AgentError: No server is installed, or none came up.
        """
        configuration = await self.configuration(afresh=True)
        family = family_of(language, configuration.families)
        project = await self.directory(given)
        key = (family.name, project.key)
        server = self._servers.get(key)
        if server is None:
            ground = Ground(
                threads=self.threads,
                environment=self.environment,
                tell=self._keeper.tell,
                configuration=configuration,
            )
            server = LanguageServer(family, project, ground)
            self._servers[key] = server
            self._make_room(configuration.limits.servers)
        self._keys.pop(project.path, None)
        self._keys[project.path] = project.key
        if len(self._keys) > PROJECTS_MAX:
            del self._keys[next(iter(self._keys))]
        try:
            await server.start()
        except BaseException:
            if server.found is None and self._servers.get(key) is server:
                # It never ran: questions are told that there is no server.
                del self._servers[key]
                await asyncio.shield(self._retire(server))
            raise
        return server

    async def stop(self, language: str, given: str) -> None:
        """Stop the server of a project; none is fine.

        Raises:
            InvalidRequestError: No such language.
        """
        family = family_of(language, (await self.configuration()).families)
        project = await self._project(given)
        server = self._servers.pop((family.name, project.key), None)
        if server is not None:
            await asyncio.shield(self._retire(server))

    async def find(self, language: str, given: str) -> LanguageServer:
        """Return the server of a project.

        Raises:
            InvalidRequestError: No such language, or nobody started it.
        """
        family = family_of(language, (await self.configuration()).families)
        project = await self._project(given)
        return self._get(family, project)

    async def subject(self, language: str, given: str, uri: str) -> Subject:
        """Return a document, and the server of its project.

        Raises:
            InvalidRequestError: No such language, no server, or no URI of a file.
        """
        family = family_of(language, (await self.configuration()).families)
        # One step in a thread: each costs as much as a fast server's answer.
        project, path = await self.threads.run(self._document, given, uri)
        server = self._get(family, project)
        inside = project.path.rstrip("/") + "/"
        if project.path != server.project.path and path.startswith(inside):
            # Another way to the same project: the server knows the first one's.
            path = f"{server.project.path}/{path.removeprefix(inside)}"
        return Subject(server, path, language)

    async def directory(self, given: str) -> Project:
        """Return a project whose directory is there.

        Raises:
            InvalidRequestError: It is not.
        """
        project = await self.threads.run(self._places.project, given)
        if not await self.threads.run(os.path.isdir, project.key):
            raise InvalidRequestError(f"project is not a directory: {given}")
        return project

    def all(self) -> list[LanguageServer]:
        """Return all servers, those used last at the end."""
        return list(self._servers.values())

    async def _project(self, given: str) -> Project:
        return await self.threads.run(self._known, given)

    def _document(self, given: str, uri: str) -> tuple[Project, str]:
        project = self._known(given)
        return project, self._places.document(uri, project)

    def _known(self, given: str) -> Project:
        """Return a project, also one that was removed since it was started; blocks."""
        project = self._places.project(given)
        known = self._keys.get(project.path)
        if known is None or known == project.key or os.path.lexists(project.path):
            return project
        # Removed since, and with it the links that led to it.
        return Project(project.path, known)

    def _get(self, family: Family, project: Project) -> LanguageServer:
        key = (family.name, project.key)
        server = self._servers.get(key)
        if server is None:
            raise not_initialized(family.name, project)
        self._servers[key] = self._servers.pop(key)
        return server

    def _make_room(self, most: int) -> None:
        """Stop the servers that nobody has asked for longest."""
        while len(self._servers) > most:
            server = self._servers.pop(next(iter(self._servers)))
            self._closing.add(self._retire(server))

    def _retire(self, server: LanguageServer) -> "asyncio.Task[None]":
        task = asyncio.create_task(server.stop())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task
