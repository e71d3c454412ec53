"""Sends each request of the dev command to the agent, the control plane or a preview.

On the dev port, `/api/toolbox/…` is the agent's (so the first SDKs, which know one
address only, reach it), the rest of `/api` is the control plane's, and everything else
is the agent's again. On the agent's own port there is no control plane. The preview port
has a room of its own.
"""

from http import HTTPStatus

from aiohttp import web

from agent import wire
from agent.dev.models import Problem
from agent.dev.previews.listener import (
    DevDispatcher,
    PreviewGuard,
    Previews,
    finish,
)
from agent.dev.routes import context, routes
from agent.settings import Settings
from agent.web.dispatch import Dispatcher
from agent.web.errors import Failure
from agent.web.routes import JSON_TYPE
from agent.web.server import application

__all__ = ["DevDispatcher", "Front", "dev_application"]

PREFIX = "/api"
TOOLBOX = "/toolbox"


class Plane(Dispatcher):
    """Answers for the control plane, whose failures have a shape of their own."""

    def tell(
        self,
        failure: Failure,
        path: str,  # noqa: ARG002 - the shape has no place for it
        method: str,  # noqa: ARG002 - nor for this
    ) -> web.Response:
        """Return the answer that tells of `failure`."""
        problem = Problem(
            status_code=failure.status,
            message=failure.message,
            error=HTTPStatus(failure.status).phrase,
        )
        return web.Response(
            status=failure.status,
            body=wire.encode(problem),
            headers={"Content-Type": JSON_TYPE, **failure.headers},
        )


class Front:
    """What sees every request of the dev command first.

    Args:
        main: The agent's own dispatcher; its guard watches the control plane too.
        settings: The agent's options, with the ports that it really has.
    """

    def __init__(self, main: Dispatcher, settings: Settings) -> None:
        self._main = main
        # Visitors of previews have rules of their own; for all others nothing changes.
        main.guard = PreviewGuard(settings)
        # No api process has this generation, so no two requests have the same id.
        self._plane = Plane((routes,), settings, guard=main.guard, generation=0)
        self._previews = Previews(main, settings)
        self._dev_port = settings.dev_port
        self._preview_port = settings.preview_port

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        port = _port_of(request)
        if port == self._preview_port:
            return await self._previews.handle(request)
        dispatcher, raw_path = self._choose(request, port)
        return await dispatcher.handle(request, raw_path)

    async def expect(self, request: web.Request) -> web.StreamResponse | None:
        """Answer `Expect: 100-continue`."""
        port = _port_of(request)
        if port == self._preview_port:
            return await self._previews.expect(request)
        dispatcher, raw_path = self._choose(request, port)
        return await dispatcher.expect(request, raw_path)

    def _choose(self, request: web.Request, port: int) -> tuple[Dispatcher, str]:
        """Return who answers, and the path that they see."""
        path = request.rel_url.raw_path
        if port != self._dev_port or not _is_below(PREFIX, path):
            return self._main, path
        rest = path.removeprefix(PREFIX) or "/"
        return (self._main if _is_below(TOOLBOX, rest) else self._plane), rest


def dev_application(main: Dispatcher, settings: Settings) -> web.Application:
    """Return the application of an agent with all that the dev command adds to it."""
    app = application(main, settings, front=Front(main, settings))
    app.cleanup_ctx.append(context)
    app.on_response_prepare.append(finish)
    return app


def _port_of(request: web.Request) -> int:
    """Return the port of ours that the request came to."""
    # The address of the socket, because the Host header is the client's to choose.
    sockname = request.transport and request.transport.get_extra_info("sockname")
    return int(sockname[1]) if isinstance(sockname, tuple) else 0


def _is_below(prefix: str, path: str) -> bool:
    return path == prefix or path.startswith(prefix + "/")
