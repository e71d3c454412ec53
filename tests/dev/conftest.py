"""Serves the dev command's two listeners, around a toolbox of two small routes."""

import dataclasses
import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import ClientSession, web

from agent.dev.events import Events
from agent.dev.front import DevDispatcher, Front
from agent.dev.previews.addresses import Addresses
from agent.dev.previews.listener import finish
from agent.dev.previews.tokens import Tokens
from agent.dev.previews.visits import Doorkeeper
from agent.dev.routes import ADDRESSES, DOORKEEPER, EVENTS, SANDBOXES
from agent.dev.sandboxes import Sandboxes
from agent.errors import RemoteError
from agent.settings import Settings
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


@toolbox.get("/proxy/{port}/{path}")
async def to_port(request: web.Request, port: str, path: str) -> web.StreamResponse:
    """Answer as a port does: with what came."""
    seen = {
        "port": port,
        "target": request.raw_path.removeprefix(f"/proxy/{port}"),
        "headers": {name.lower(): value for name, value in request.headers.items()},
    }
    headers = {"Location": "/elsewhere", "Access-Control-Allow-Origin": "app"}
    if path != "found":
        raise RemoteError(f"no service is listening on port {port}")
    return web.Response(body=json.dumps(seen).encode(), headers=headers)


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


class Store:
    """What outlasts an api process, held here for want of a keeper."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    async def kv_get(self, name: str) -> bytes | None:
        """Return what is held under a name."""
        return self.held.get(name)

    async def kv_set(self, name: str, value: bytes) -> None:
        """Hold `value` under a name."""
        self.held[name] = value


class Clock:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 6, 23, 15, 33, 38, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now

    def unix(self) -> float:
        """Return the time in Unix seconds."""
        return self.now.timestamp()

    def turn(self, **units: int) -> None:
        """Let time pass."""
        self.now += timedelta(**units)


@dataclasses.dataclass(frozen=True)
class Dev:
    """The three listeners, and a client without manners of its own."""

    settings: Settings
    client: ClientSession
    clock: Clock
    app: web.Application

    @property
    def agent(self) -> str:
        """The agent's own address."""
        return f"http://127.0.0.1:{self.settings.port}"

    @property
    def plane(self) -> str:
        """The control plane's address."""
        return f"http://127.0.0.1:{self.settings.dev_port}/api"

    @property
    def previews(self) -> str:
        """The preview listener's address."""
        return f"http://127.0.0.1:{self.settings.preview_port}"

    def host(self, label: str) -> str:
        """Return the Host header of a preview."""
        return f"{label}.localhost:{self.settings.preview_port}"


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
def store() -> Store:
    return Store()


@pytest.fixture
def sandboxes(
    settings: Settings, variables: Variables, clock: Clock, store: Store
) -> Sandboxes:
    addresses = Addresses(settings, named=True)
    tokens = Tokens(settings, store, clock.unix)
    return Sandboxes(settings, variables, lambda *_: None, addresses, tokens, clock)


@pytest.fixture
async def dev(
    settings: Settings, variables: Variables, clock: Clock, store: Store
) -> AsyncIterator[Dev]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [each.getsockname()[1] for each in sockets]
    settings = dataclasses.replace(
        settings, port=ports[0], dev_port=ports[1], preview_port=ports[2]
    )
    main = DevDispatcher((toolbox,), settings)
    app = application(main, settings, front=Front(main, settings))
    app.on_response_prepare.append(finish)
    app[WEBSOCKETS] = Websockets()
    app[EVENTS] = Events()
    tokens = Tokens(settings, store, clock.unix)
    app[ADDRESSES] = Addresses(settings, named=True)
    app[DOORKEEPER] = Doorkeeper(settings, app[ADDRESSES], tokens)
    app[SANDBOXES] = Sandboxes(
        settings, variables, app[EVENTS].publish, app[ADDRESSES], tokens
    )
    server = Server(app, settings)
    await server.start(sockets)
    async with ClientSession() as client:
        yield Dev(settings, client, clock, app)
    await server.aclose()
