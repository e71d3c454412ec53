"""A plain aiohttp application with one route that answers a small JSON object.

python -I bare_aiohttp.py PORT
"""

import sys

from aiohttp import web


async def version(request: web.Request) -> web.Response:  # noqa: ARG001 - aiohttp's form
    """Answer the one route."""
    return web.json_response({"version": "0.0.0"})


if __name__ == "__main__":
    app = web.Application()
    app.router.add_get("/version", version)
    web.run_app(
        app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None
    )
