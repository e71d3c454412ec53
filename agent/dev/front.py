"""Sends each request of the dev command to the agent or to the control plane.

On the dev port, `/api/toolbox/…` is the agent's (so the first SDKs, which know one
address only, reach it), the rest of `/api` is the control plane's, and everything else
is the agent's again. On the agent's own port there is no control plane.
"""

from http import HTTPStatus

from aiohttp import web

from agent import wire
from agent.dev.models import Problem
from agent.dev.routes import routes
from agent.settings import Settings
from agent.web.dispatch import Dispatcher
from agent.web.errors import Failure
from agent.web.routes import JSON_TYPE

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
        # No api process has this generation, so no two requests have the same id.
        self._plane = Plane((routes,), settings, guard=main.guard, generation=0)
        self._dev_port = settings.dev_port

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        dispatcher, raw_path = self._choose(request)
        return await dispatcher.handle(request, raw_path)

    async def expect(self, request: web.Request) -> web.StreamResponse | None:
        """Answer `Expect: 100-continue`."""
        dispatcher, raw_path = self._choose(request)
        return await dispatcher.expect(request, raw_path)

    def _choose(self, request: web.Request) -> tuple[Dispatcher, str]:
        """Return who answers, and the path that they see."""
        path = request.rel_url.raw_path
        if not self._is_on_dev_port(request) or not _is_below(PREFIX, path):
            return self._main, path
        rest = path.removeprefix(PREFIX) or "/"
        return (self._main if _is_below(TOOLBOX, rest) else self._plane), rest

    def _is_on_dev_port(self, request: web.Request) -> bool:
        # The address of the socket, because the Host header is the client's to choose.
        sockname = request.transport and request.transport.get_extra_info("sockname")
        return isinstance(sockname, tuple) and sockname[1] == self._dev_port


def _is_below(prefix: str, path: str) -> bool:
    return path == prefix or path.startswith(prefix + "/")
