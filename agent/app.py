"""The list of subsystems: their route tables and what each opens and closes."""

from collections.abc import AsyncIterator, Callable

from aiohttp import web

from agent.keeper.client import Keeper
from agent.registry import KEEPER, SETTINGS, WORK_DIR
from agent.settings import Settings
from agent.system import routes as system
from agent.web import docs
from agent.web.dispatch import Dispatcher
from agent.web.rooms import Context, Room, Rooms
from agent.web.routes import Routes
from agent.web.server import DISPATCHER, application
from agent.web.websockets import WEBSOCKETS, Websockets

TABLES: tuple[Routes, ...] = (system.routes,)
"""What is asked of every agent from its first moment."""
CONTEXTS: tuple[Context, ...] = (system.context,)

FILES = "agent.files.routes"
WATCH = "agent.files.watch.routes"
PROCESS = "agent.process.routes"
GIT = "agent.git.routes"
GIT_HISTORY = "agent.git.history.routes"
LSP = "agent.lsp.routes"

ROOMS: tuple[Room, ...] = (
    Room(module=FILES, under=("/files",), leaves="uploads"),
    Room(module="agent.files.edits.routes", under=("/files/edit",), leaves="edits"),
    Room(
        module="agent.files.search.routes",
        under=("/files/find", "/files/search", "/files/replace"),
        after=(FILES,),
    ),
    Room(module=WATCH, under=("/files/watch",), leaves=""),
    Room(
        module="agent.files.archives.routes",
        under=("/files/archive", "/files/extract"),
    ),
    Room(module=PROCESS, under=("/process/execute",)),
    Room(module="agent.process.inventory.routes", under=("/process",)),
    Room(
        module="agent.process.wait.routes",
        under=("/process/wait",),
        after=(WATCH,),
        leaves="",
    ),
    # Both answer a repeated request with the keys that the process room holds.
    Room(module="agent.sessions.routes", under=("/process/session",), after=(PROCESS,)),
    Room(
        module="agent.process.coderun.routes",
        under=("/process/code-run",),
        after=(PROCESS,),
    ),
    Room(module="agent.pty.routes", under=("/process/pty",), leaves=""),
    Room(module="agent.interpreter.routes", under=("/process/interpreter",), leaves=""),
    Room(module=GIT, under=("/git",), leaves="git"),
    Room(
        module=GIT_HISTORY,
        under=("/git/diff", "/git/show", "/git/blame"),
        after=(GIT,),
        leaves="git-scratch",
    ),
    Room(
        module="agent.git.changes.routes",
        under=(
            "/git/fetch",
            "/git/merge",
            "/git/rebase",
            "/git/cherry-pick",
            "/git/stash",
            "/git/tags",
            "/git/worktrees",
        ),
        after=(GIT,),
    ),
    Room(
        module="agent.git.checkpoints.routes",
        under=("/git/checkpoint",),
        after=(GIT, GIT_HISTORY),
    ),
    Room(module="agent.events.routes", under=("/events",)),
    Room(module="agent.ports.routes", under=("/port",)),
    Room(module="agent.ports.proxy.routes", under=("/proxy",), open_ended=True),
    Room(module="agent.metrics.routes", under=("/metrics",)),
    Room(module=LSP, under=("/lsp",)),
    Room(
        module="agent.lsp.editor.routes",
        under=(
            "/lsp/status",
            "/lsp/did-change",
            "/lsp/hover",
            "/lsp/definition",
            "/lsp/type-definition",
            "/lsp/implementation",
            "/lsp/references",
            "/lsp/signature-help",
            "/lsp/call-hierarchy",
            "/lsp/diagnostics",
            "/lsp/semantic",
            "/lsp/rename",
            "/lsp/formatting",
            "/lsp/code-actions",
            "/lsp/connect",
        ),
        after=(LSP,),
    ),
)
"""What opens when it is first asked for."""


def tables() -> list[Routes]:
    """Return the route tables of all subsystems."""
    return [*TABLES, *Rooms(ROOMS).tables()]


def build(keeper: Keeper, settings: Settings, work_dir: str) -> web.Application:
    """Return the application of one agent, not started yet."""
    # A developer's browser has no token to show on the page where it could be typed in.
    viewer = docs.open_routes() if settings.dev else docs.routes
    kind: type[Dispatcher] = Dispatcher
    assemble: Callable[[Dispatcher, Settings], web.Application] = application
    if settings.dev:
        # Imported here, because no agent but the dev command's may have it.
        from agent.dev.front import DevDispatcher, dev_application  # noqa: PLC0415

        kind, assemble = DevDispatcher, dev_application
    dispatcher = kind(
        (*TABLES, viewer),
        settings,
        generation=keeper.generation,
        rooms=Rooms(ROOMS),
    )
    app = assemble(dispatcher, settings)
    app[SETTINGS] = settings
    app[WORK_DIR] = work_dir
    app[KEEPER] = keeper
    app[WEBSOCKETS] = Websockets()
    app.cleanup_ctx.extend((*CONTEXTS, rooms_context))
    return app


async def rooms_context(app: web.Application) -> AsyncIterator[None]:
    """Open the rooms that have something to clear up; close all that were opened."""
    dispatcher = app[DISPATCHER]
    rooms = dispatcher.rooms
    assert rooms is not None  # noqa: S101 - for the types
    await rooms.open_for_recovery(
        app, dispatcher.router, app[SETTINGS].state_dir, app[KEEPER].generation
    )
    yield
    await rooms.aclose()
