"""Sends a JSON answer that is made a piece at a time."""

import asyncio
from collections.abc import Iterator, Mapping

from aiohttp import web

from agent.web.routes import JSON_TYPE


async def stream_json(
    request: web.Request, pieces: Iterator[bytes], headers: Mapping[str, str]
) -> web.StreamResponse:
    """Send the pieces, each made in a thread; neither memory nor the loop feels them."""
    response = web.StreamResponse(headers={"Content-Type": JSON_TYPE, **headers})
    # The first one before the status: what cannot be read is still an ordinary error.
    piece = await asyncio.to_thread(next, pieces, None)
    await response.prepare(request)
    while piece is not None:
        await response.write(piece)
        piece = await asyncio.to_thread(next, pieces, None)
    await response.write_eof()
    return response
