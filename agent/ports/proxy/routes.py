"""The way to what listens in the sandbox (contract 50 §3)."""

from collections.abc import AsyncIterator

from aiohttp import web

from agent.errors import InvalidRequestError
from agent.ports.proxy.exchange import Exchange
from agent.ports.proxy.pool import Pool
from agent.registry import SETTINGS
from agent.web.routes import ANY_METHOD, Routes
from agent.web.server import DISPATCHER

routes = Routes("ports")

POOL = web.AppKey("pool", Pool)

PORT_MAX = 65535


async def context(app: web.Application) -> AsyncIterator[None]:
    """Keep the connections to applications, and cut them at the end."""
    pool = app[POOL] = Pool(app[SETTINGS].proxy_grace_s)
    yield
    await pool.aclose()


@routes.add(ANY_METHOD, "/proxy/{port}/{path}", errors=(400, 502), open_ended=True)
async def proxy(request: web.Request, port: str, path: str) -> web.StreamResponse:
    """Pass a request on to what listens on a port of the sandbox.

    Path, query and body arrive as they were sent, and so does the answer; redirects are
    not followed. Upgrades (websockets) are tunnelled. What listens sees `Host:
    localhost:{port}` and the client's in `X-Forwarded-Host`; the agent's token and the
    platform's credentials are taken off. Nothing listens: 502.
    """
    exchange = Exchange(
        request,
        _number(port),
        request.app[SETTINGS].port,
        request.app[DISPATCHER].guard,
    )
    return await exchange.run(request.app[POOL], path)


def _number(port: str) -> int:
    """Return the port that a path names.

    Raises:
        InvalidRequestError: It names none.
    """
    if (
        port.isascii()
        and port.isdigit()
        and len(port) < 10
        and 0 < int(port) <= PORT_MAX
    ):
        return int(port)
    raise InvalidRequestError(
        f"port must be a number from 1 to {PORT_MAX}: {port[:20]}"
    )
