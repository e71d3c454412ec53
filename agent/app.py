"""The list of subsystems: their route tables and what each opens and closes."""

from collections.abc import AsyncIterator, Callable

from aiohttp import web

from agent.files import routes as files
from agent.files.archives import routes as archives
from agent.files.edits import routes as edits
from agent.files.search import routes as search
from agent.files.watch import routes as watch
from agent.git import routes as git
from agent.git.changes import routes as git_changes
from agent.git.checkpoints import routes as checkpoints
from agent.git.history import routes as git_history
from agent.interpreter import routes as interpreter
from agent.keeper.client import Keeper
from agent.lsp import routes as lsp
from agent.lsp.editor import routes as lsp_editor
from agent.process import routes as process
from agent.process.coderun import routes as coderun
from agent.process.inventory import routes as inventory
from agent.process.wait import routes as wait
from agent.pty import routes as pty
from agent.registry import KEEPER, SETTINGS, WORK_DIR
from agent.sessions import routes as sessions
from agent.settings import Settings
from agent.system import routes as system
from agent.web import docs
from agent.web.dispatch import Dispatcher
from agent.web.routes import Routes
from agent.web.server import application
from agent.web.websockets import WEBSOCKETS, Websockets

Context = Callable[[web.Application], AsyncIterator[None]]

TABLES: tuple[Routes, ...] = (
    system.routes,
    files.routes,
    edits.routes,
    search.routes,
    watch.routes,
    archives.routes,
    process.routes,
    inventory.routes,
    wait.routes,
    sessions.routes,
    coderun.routes,
    pty.routes,
    interpreter.routes,
    git.routes,
    git_history.routes,
    git_changes.routes,
    checkpoints.routes,
    lsp.routes,
    lsp_editor.routes,
)
CONTEXTS: tuple[Context, ...] = (
    system.context,
    files.context,
    edits.context,
    search.context,
    watch.context,
    archives.context,
    process.context,
    inventory.context,
    wait.context,
    sessions.context,
    coderun.context,
    pty.context,
    interpreter.context,
    git.context,
    git_history.context,
    checkpoints.context,
    lsp.context,
    lsp_editor.context,
)


def build(keeper: Keeper, settings: Settings, work_dir: str) -> web.Application:
    """Return the application of one agent, not started yet."""
    # A developer's browser has no token to show on the page where it could be typed in.
    viewer = docs.open_routes() if settings.dev else docs.routes
    dispatcher = Dispatcher((*TABLES, viewer), settings, generation=keeper.generation)
    if settings.dev:
        # Imported here, because no agent but the dev command's may have it.
        from agent.dev import routes as dev  # noqa: PLC0415
        from agent.dev.front import Front  # noqa: PLC0415

        app = application(dispatcher, settings, front=Front(dispatcher, settings))
        app.cleanup_ctx.append(dev.context)
    else:
        app = application(dispatcher, settings)
    app[SETTINGS] = settings
    app[WORK_DIR] = work_dir
    app[KEEPER] = keeper
    app[WEBSOCKETS] = Websockets()
    app.cleanup_ctx.extend(CONTEXTS)
    return app
