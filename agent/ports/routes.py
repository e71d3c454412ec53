"""What listens in the sandbox (contract 50 §1-2)."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import msgspec
from aiohttp import web

from agent import wire
from agent.errors import InvalidRequestError
from agent.ports.listening import describe, inodes_of, listening, ports_of
from agent.ports.models import IsPortInUse, PortList
from agent.ports.watching import PortWatch
from agent.registry import KEEPER
from agent.web.events import PING, begin_events, encode_event
from agent.web.routes import Routes
from agent.web.server import told_of_the_end

routes = Routes("ports")

PING_S = 30.0
"""Between two words to a client that would hear nothing; proxies cut silence at 60 s."""

FIRST_PORT = 3000
LAST_PORT = 9999
"""The range that the published route takes, although previews work on any port."""


class Ports(msgspec.Struct, frozen=True):
    """What the routes work with."""

    own: frozenset[int]
    """The agent's own sockets, which nobody asks for."""
    watch: PortWatch


PORTS = web.AppKey("ports", Ports)


async def context(app: web.Application) -> AsyncIterator[None]:
    """Open what the routes work with, and close it."""
    own = inodes_of(app[KEEPER].listeners)
    watch = PortWatch(partial(_open_ports, own), tell=app[KEEPER].tell)
    app[PORTS] = Ports(own, watch)
    yield
    await watch.aclose()


@routes.get("/port")
async def ports(request: web.Request, verbose: bool = False) -> PortList:
    """List the TCP ports on which something listens.

    IPv4 and IPv6, on any address; the agent's own are left out. With `verbose` each
    socket is listed with its address, process id and command line; both are null when
    the process is another user's.
    """
    own = request.app[PORTS].own
    return await asyncio.to_thread(_list, own, verbose=verbose)


@routes.get("/port/{port}/in-use", errors=(400,))
async def port_in_use(port: str) -> IsPortInUse:
    """Tell whether something listens on a port from 3000 to 9999."""
    number = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0
    if not FIRST_PORT <= number <= LAST_PORT:
        raise InvalidRequestError(
            f"port must be a number from {FIRST_PORT} to {LAST_PORT}: {port[:20]}"
        )
    sockets = await asyncio.to_thread(listening)
    return IsPortInUse(is_in_use=any(each.port == number for each in sockets))


@routes.get("/port/watch")
async def watch_ports(request: web.Request) -> web.StreamResponse:
    """Tell of ports that open and close, as server-sent events.

    The first event is `snapshot`, with all `ports` that are open; then come `opened` and
    `closed`, each with its `port`. What opens and closes within half a second may go
    unseen. Who comes back begins with a snapshot again.
    """
    with (
        request.app[PORTS].watch.follow() as follower,
        told_of_the_end(request, follower.leave),
    ):
        response = await begin_events(request)
        number = 0
        while (events := await follower.take(PING_S)) is not None:
            for event in events:
                number += 1
                await response.write(
                    encode_event(number, event.kind, wire.encode(event))
                )
            if not events:
                await response.write(PING)
        await response.write_eof()
    return response


def _open_ports(own: frozenset[int]) -> list[int]:
    return ports_of(listening(), own)


def _list(own: frozenset[int], *, verbose: bool) -> PortList:
    sockets = listening()
    if not verbose:
        return PortList(ports=ports_of(sockets, own))
    return PortList(ports=ports_of(sockets, own), sockets=describe(sockets, own))
