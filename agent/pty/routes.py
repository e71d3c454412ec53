"""The routes of terminals."""

from collections.abc import AsyncIterator

from aiohttp import web

from agent.errors import InvalidRequestError
from agent.pty.models import (
    PtyCreateRequest,
    PtyCreateResponse,
    PtyDeleteResponse,
    PtyListResponse,
    PtyResizeRequest,
    PtySessionInfo,
)
from agent.pty.requests import check_size, offered_environment, size_of, wanted
from agent.pty.terminals import Terminals, Visit
from agent.registry import KEEPER, WORK_DIR
from agent.web.duplex import Door
from agent.web.routes import Routes
from agent.web.websockets import EXIT_CONTROL, offered_subprotocols

routes = Routes("process")

TERMINALS = web.AppKey("terminals", Terminals)
"""The owner of all terminals."""

MESSAGE_BYTES = 4 * 1024 * 1024
"""The longest message taken from a client: a paste comes in one."""


async def context(app: web.Application) -> AsyncIterator[None]:
    """Open what the routes work with, and close it."""
    terminals = Terminals(app[KEEPER], app[WORK_DIR])
    app[TERMINALS] = terminals
    await terminals.open()
    yield
    await terminals.aclose()


@routes.post("/process/pty", status=201, errors=(400, 409, 429, 500))
async def create_pty_session(
    request: web.Request, body: PtyCreateRequest
) -> PtyCreateResponse:
    """Open a terminal with an interactive login shell.

    With `lazyStart` the shell starts with the first client. The terminal lives until its
    shell exits or it is deleted, however many clients come and go.
    """
    terminal = await request.app[TERMINALS].create(
        wanted(
            body.id or "",
            body.cwd or "",
            dict(body.envs or {}),
            (body.cols or 0, body.rows or 0),
            lazy=bool(body.lazy_start),
        )
    )
    return PtyCreateResponse(session_id=terminal.facts.id)


@routes.get("/process/pty")
async def list_pty_sessions(request: web.Request) -> PtyListResponse:
    """List all terminals."""
    terminals = request.app[TERMINALS].all()
    return PtyListResponse(sessions=[each.info() for each in terminals])


@routes.get("/process/pty/{session_id}", errors=(404,))
async def get_pty_session(request: web.Request, session_id: str) -> PtySessionInfo:
    """Tell of one terminal."""
    return request.app[TERMINALS].get(session_id).info()


@routes.delete("/process/pty/{session_id}", errors=(404,))
async def delete_pty_session(
    request: web.Request, session_id: str
) -> PtyDeleteResponse:
    """Kill a terminal's shell and everything that came of it."""
    await request.app[TERMINALS].delete(session_id)
    return PtyDeleteResponse()


@routes.post("/process/pty/{session_id}/resize", errors=(400, 410))
async def resize_pty_session(
    request: web.Request, session_id: str, body: PtyResizeRequest
) -> PtySessionInfo:
    """Set a terminal's size; the program in it is told."""
    check_size(body.cols, body.rows)
    terminals = request.app[TERMINALS]
    return (await terminals.resize(session_id, body.cols, body.rows)).info()


@routes.get("/process/pty/{session_id}/connect", errors=(400,), websocket="only")
async def connect_pty_session(
    request: web.Request, session_id: str, since: int | None = None
) -> web.StreamResponse:
    """Connect to a terminal by websocket.

    The first message is a control text `connected`; binary messages are its output and,
    from the client, its input. A client gets what was written while none was connected,
    up to 256 KiB. With `since`, an offset in the terminal's output, it gets everything
    from there that is still held, `connected` tells the offset where that begins, and a
    terminal that has ended less than a minute ago is still found.
    """
    if since is not None and since < 0:
        raise InvalidRequestError("since must be 0 or more")
    told_exit = EXIT_CONTROL in offered_subprotocols(request)
    async with Door(request, MESSAGE_BYTES) as door:
        visit = Visit(since=since, told_exit=told_exit)
        await request.app[TERMINALS].connect(session_id, door.open, visit)
        return door.response


@routes.get(
    "/process/pty/create-connect", errors=(400, 409, 429, 500), websocket="only"
)
async def create_connect_pty_session(
    request: web.Request,
    id: str,  # noqa: A002 - the wire's name
    cwd: str = "",
    cols: str = "",
    rows: str = "",
) -> web.StreamResponse:
    """Open a terminal and connect to it, in one step.

    Its environment comes in the subprotocol `X-Daytona-Pty-Envs~`: base64url of a JSON
    object. The shell runs before the upgrade is answered.
    """
    offered = offered_subprotocols(request)
    environment = offered_environment(offered)
    size = (size_of(cols), size_of(rows))
    asked = wanted(id, cwd, environment, size, lazy=False)
    terminals = request.app[TERMINALS]
    async with Door(request, MESSAGE_BYTES) as door:
        terminal = await terminals.create(asked)
        visit = Visit(told_exit=EXIT_CONTROL in offered)
        await terminals.attend(terminal, door.open, visit)
        return door.response
