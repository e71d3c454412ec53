"""`GET /openapi.json`, and `GET /docs`: a page that shows it.

The viewer is Swagger UI (Apache-2.0), kept in `viewer/` as its project ships it, so that
the page needs nothing from outside. All its addresses are relative and so hold behind
every path prefix.
"""

import asyncio

from aiohttp import web
from msgspec.structs import replace

from agent import wire
from agent.errors import NotFoundError
from agent.version import VERSION
from agent.web.routes import Routes
from agent.web.server import DISPATCHER

routes = Routes("docs")

ASSETS = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "start.js": "text/javascript; charset=utf-8",
}

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Toolbox agent API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{up}docs/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="{up}docs/swagger-ui-bundle.js"></script>
<script src="{up}docs/start.js"></script>
</body>
</html>
"""
# Nothing from elsewhere, nothing inline but the viewer's own styles, no framing.
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; "
        "base-uri 'none'; form-action 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def open_routes() -> Routes:
    """Return the same routes for callers without a token."""
    return Routes(routes.tag, [replace(route, public=True) for route in routes])


@routes.get("/openapi.json")
async def openapi(request: web.Request) -> web.Response:
    """Describe every route of this agent as OpenAPI 3.1."""
    # Imported here, because it is asked for seldom and starting must not wait for it.
    from agent.web.openapi import document  # noqa: PLC0415

    tables = await request.app[DISPATCHER].all_tables()
    served = [route for table in tables for route in table]
    body = wire.encode(document(served, VERSION))
    return web.Response(body=body, content_type="application/json")


@routes.get("/docs")
async def docs(request: web.Request) -> web.Response:
    """Show the API in a browser."""
    # With a slash at its end the page is one level deeper for its relative addresses.
    page = PAGE.format(up="../" if request.path.endswith("/") else "")
    return web.Response(text=page, content_type="text/html", headers=PAGE_HEADERS)


@routes.get("/docs/{asset}", errors=(404,))
async def docs_asset(asset: str) -> web.Response:
    """Serve a part of the page."""
    if asset not in ASSETS:
        raise NotFoundError(f"no such asset: {asset}")
    # Imported here, because it is asked for seldom and starting must not wait for it.
    from importlib import resources  # noqa: PLC0415

    source = resources.files("agent.web").joinpath("viewer", asset)
    return web.Response(
        body=await asyncio.to_thread(source.read_bytes),
        headers={"Content-Type": ASSETS[asset], "X-Content-Type-Options": "nosniff"},
    )
