"""The routes of the code interpreter."""

from collections.abc import AsyncIterator

from aiohttp import web

from agent.interpreter.contexts import Contexts
from agent.interpreter.conversation import Conversation
from agent.interpreter.models import (
    ContextList,
    ContextRequest,
    InterpreterContext,
    Told,
)
from agent.registry import KEEPER, WORK_DIR
from agent.web.duplex import Door
from agent.web.routes import Routes
from agent.web.websockets import MESSAGE_BYTES

routes = Routes("interpreter")

CONTEXTS = web.AppKey("contexts", Contexts)


async def context(app: web.Application) -> AsyncIterator[None]:
    """Open what the routes work with, and leave the contexts to the next api."""
    app[CONTEXTS] = Contexts(app[KEEPER], app[WORK_DIR])
    await app[CONTEXTS].open()
    yield
    await app[CONTEXTS].aclose()


@routes.post("/process/interpreter/context", errors=(400, 429, 500))
async def create_context(
    request: web.Request, body: ContextRequest | None = None
) -> InterpreterContext:
    """Make a context: a worker that keeps variables, imports and functions.

    The language is `python` (the default), `javascript`, `typescript` or `bash`; what
    runs it is looked for on PATH.
    """
    asked = body or ContextRequest()
    made = await request.app[CONTEXTS].create(
        asked.cwd or "", asked.language or "python"
    )
    return made.model()


@routes.get("/process/interpreter/context")
async def list_contexts(request: web.Request) -> ContextList:
    """List the contexts, oldest first, without the default one."""
    return ContextList(contexts=[each.model() for each in request.app[CONTEXTS].all()])


@routes.delete("/process/interpreter/context/{id}", errors=(400, 404))
async def delete_context(
    request: web.Request,
    id: str,  # noqa: A002 - the wire's name
) -> Told:
    """End a context, its worker, and all that this has started."""
    await request.app[CONTEXTS].delete(id)
    return Told(message="Context deleted successfully")


@routes.post("/process/interpreter/context/{id}/interrupt", errors=(404, 409))
async def interrupt_context(
    request: web.Request,
    id: str,  # noqa: A002 - the wire's name
) -> Told:
    """Interrupt the run under way in a context, as Ctrl-C would; its state is kept.

    The run ends with the exception that the code made of it and the control message
    `interrupted`. `default` names the default context.
    """
    found = await request.app[CONTEXTS].get(id)
    await found.interrupt()
    return Told(message="Context interrupted")


@routes.get("/process/interpreter/execute", errors=(400,), websocket="only")
async def execute_code(request: web.Request) -> web.StreamResponse:
    """Run code in a context, over a websocket.

    The client sends one JSON message (`code`, `contextId`, `timeout` in seconds, `envs`,
    `rich`); output, an `error`, and a `control` message come back as JSON, then the close
    frame. A client that leaves ends its listening, never the run.
    """
    async with Door(request, MESSAGE_BYTES) as door:
        await Conversation(await door.open(), request.app[CONTEXTS]).hold()
        return door.response
