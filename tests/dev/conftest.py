"""Serves the dev command's two listeners, around a toolbox of two small routes."""

import dataclasses
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import ClientSession, web

from agent.dev.events import Events
from agent.dev.front import Front
from agent.dev.routes import EVENTS, SANDBOXES
from agent.dev.sandboxes import Sandboxes
from agent.settings import Settings
from agent.web.dispatch import Dispatcher
from agent.web.routes import Routes
from agent.web.server import Server, application
from agent.web.websockets import WEBSOCKETS, Websockets

TOKEN = "the-token"
AUTH = {"Authorization": f"Bearer {TOKEN}"}

toolbox = Routes("toolbox")


@toolbox.get("/version", public=True)
async def version() -> web.Response:
    """Answer as the toolbox."""
    return web.Response(text="toolbox")


@toolbox.post("/files/upload", upload=True)
async def upload(request: web.Request, path: str) -> web.Response:
    """Answer with what came."""
    return web.Response(text=f"{path}: {(await request.read()).decode()}")


class Variables:
    """An environment that is held here, for want of a keeper."""

    def __init__(self) -> None:
        self.held = {"OLD": "1"}

    async def update(
        self, variables: Mapping[str, str], unset: Sequence[str] = ()
    ) -> None:
        """Remove `unset`, then set `variables`."""
        kept = {name: text for name, text in self.held.items() if name not in unset}
        self.held = {**kept, **variables}


class Clock:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 6, 23, 15, 33, 38, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now

    def turn(self, **units: int) -> None:
        """Let time pass."""
        self.now += timedelta(**units)


@dataclasses.dataclass(frozen=True)
class Dev:
    """The two listeners, and a client without manners of its own."""

    settings: Settings
    client: ClientSession

    @property
    def agent(self) -> str:
        """The agent's own address."""
        return f"http://127.0.0.1:{self.settings.port}"

    @property
    def plane(self) -> str:
        """The control plane's address."""
        return f"http://127.0.0.1:{self.settings.dev_port}/api"


@pytest.fixture
def variables() -> Variables:
    return Variables()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings() -> Settings:
    return Settings(token=TOKEN, signing_key="the-key", sandbox_id="sb-1")


@pytest.fixture
def sandboxes(settings: Settings, variables: Variables, clock: Clock) -> Sandboxes:
    return Sandboxes(settings, variables, lambda *_: None, clock)


@pytest.fixture
async def dev(settings: Settings, variables: Variables) -> AsyncIterator[Dev]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [each.getsockname()[1] for each in sockets]
    settings = dataclasses.replace(settings, port=ports[0], dev_port=ports[1])
    main = Dispatcher((toolbox,), settings)
    app = application(main, settings, front=Front(main, settings))
    app[WEBSOCKETS] = Websockets()
    app[EVENTS] = Events()
    app[SANDBOXES] = Sandboxes(settings, variables, app[EVENTS].publish)
    server = Server(app, settings)
    await server.start(sockets)
    async with ClientSession() as client:
        yield Dev(settings, client)
    await server.aclose()
