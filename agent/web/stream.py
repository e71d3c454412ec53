"""Sends a JSON answer that is made a piece at a time."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping

from aiohttp import web

from agent.web.routes import JSON_TYPE


async def stream_json(
    request: web.Request, pieces: Iterator[bytes], headers: Mapping[str, str]
) -> web.StreamResponse:
    """Send the pieces, each made in a thread; neither memory nor the loop feels them."""
    return await stream(
        request, in_threads(pieces), {"Content-Type": JSON_TYPE, **headers}
    )


async def stream(
    request: web.Request,
    pieces: AsyncIterator[bytes],
    headers: Mapping[str, str],
    status: int = 200,
    *,
    at_once: bool = False,
) -> web.StreamResponse:
    """Send the pieces as they come.

    The first one is made before the status is sent: what cannot be read is an ordinary
    error still. With `at_once` the status comes first, for pieces that take their time.
    """
    response = web.StreamResponse(status=status, headers=headers)
    if at_once:
        await response.prepare(request)
    piece = await anext(pieces, None)
    if not at_once:
        await response.prepare(request)
    while piece is not None:
        if piece:
            await response.write(piece)
        piece = await anext(pieces, None)
    await response.write_eof()
    return response


async def in_threads(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what an iterator gives, each step in a thread."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece
