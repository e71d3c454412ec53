"""The route that tells of changes, as server-sent events or over a websocket."""

from collections.abc import AsyncIterator

from aiohttp import web

from agent import wire
from agent.files.watch.models import WatchEvent
from agent.files.watch.patterns import Choice
from agent.files.watch.watches import Listener, Watches
from agent.registry import KEEPER, WATCHES, WORK_DIR
from agent.web.counts import GAUGES
from agent.web.events import begin_events, encode_event, last_event_id
from agent.web.guard import is_upgrade
from agent.web.routes import Routes
from agent.web.server import told_of_the_end
from agent.web.websockets import WEBSOCKETS, beside

routes = Routes("files")

PING_S = 30.0
"""Between two words to a client that would hear nothing; proxies cut silence at 60 s."""


async def context(app: web.Application) -> AsyncIterator[None]:
    """Open what the route works with, and close it."""
    watches = Watches(app[WORK_DIR], app[KEEPER])
    app[WATCHES] = watches
    app[GAUGES]["watch"] = watches.__len__
    watches.open()
    yield
    await watches.aclose()


@routes.get("/files/watch", errors=(400, 403, 404, 429, 503, 507), websocket="also")
async def watch_files(
    request: web.Request,
    path: str,
    recursive: bool = False,
    include: str = "",
    exclude: str = "",
    since: int | None = None,
) -> web.StreamResponse:
    """Tell of every change at a path from now on.

    Server-sent events, or with an upgrade a websocket with one JSON text for each. The
    first word is `ready`; nothing that happens after the headers is missed. `since`, or
    the header `Last-Event-ID`, goes on after an event that the client has; `overflow`
    says that it cannot, that the client was too slow, or that the system dropped events.
    `moved` has `path` and `from`; a rename that cannot be told from other things is
    `deleted` and `created`, one across what was chosen is either. What is below links to
    directories is not told. `include` and `exclude` are globs with commas between them.
    """
    choice = Choice(include, exclude)
    since = last_event_id(request, since)
    watches = request.app[WATCHES]
    async with watches.listen(
        path, choice, recursive=recursive, since=since
    ) as listener:
        if is_upgrade(request):
            return await _by_websocket(request, listener)
        with told_of_the_end(request, listener.leave):
            return await _by_events(request, listener)


async def _by_events(request: web.Request, listener: Listener) -> web.StreamResponse:
    response = await begin_events(request)
    await response.write(_as_event(listener.begin()))
    while (events := await listener.take(PING_S)) is not None:
        if events:
            await response.write(b"".join(map(_as_event, events)))
        else:
            # With the number, although no event bears it: the client goes on after it.
            await response.write(b": ping\nid: %d\n\n" % listener.sequence)
    await response.write_eof()
    return response


def _as_event(event: WatchEvent) -> bytes:
    return encode_event(event.sequence, event.kind, wire.encode(event))


async def _by_websocket(request: web.Request, listener: Listener) -> web.StreamResponse:
    sockets = request.app[WEBSOCKETS]
    socket = await sockets.accept(request)
    try:
        async with beside(_read(socket, listener)):
            await socket.send_str(_as_text(listener.begin()))
            while (events := await listener.take(PING_S)) is not None:
                for event in events:
                    await socket.send_str(_as_text(event))
                if not events:
                    await socket.ping()
        await socket.close()
    finally:
        sockets.forget(socket)
    return socket


async def _read(socket: web.WebSocketResponse, listener: Listener) -> None:
    """Take whatever the client says, for the sake of its close."""
    try:
        async for _ in socket:
            pass
    finally:
        listener.leave()


def _as_text(event: WatchEvent) -> str:
    return wire.encode(event).decode()
