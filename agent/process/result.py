"""Turns what a command wrote into the answer, whatever its size.

A short output is encoded as it stands. A long one was spooled by the keeper and is
streamed: read, decoded and escaped a piece at a time in a thread, so that neither the
memory nor the event loop feels it. Bytes that are not UTF-8 become U+FFFD.
"""

import asyncio
import codecs
from collections.abc import Iterator

from aiohttp import web

from agent import wire
from agent.keeper.client import RunResult
from agent.process.models import ExecuteResponse
from agent.web.routes import JSON_TYPE

PIECE_BYTES = 256 * 1024
"""Read, escaped and sent at a time; larger gains nothing."""


def inline_result(result: RunResult) -> ExecuteResponse:
    """Return the answer for an output that is in memory."""
    text = result.error or result.output.decode("utf-8", "replace")
    return ExecuteResponse(exit_code=result.exit_code, result=text)


async def stream_result(
    request: web.Request, result: RunResult, dropped_header: str
) -> web.StreamResponse:
    """Send the answer for an output that is in a file."""
    response = web.StreamResponse(headers={"Content-Type": JSON_TYPE})
    if result.dropped_bytes:
        response.headers[dropped_header] = str(result.dropped_bytes)
    pieces = _pieces(result)
    first = await asyncio.to_thread(next, pieces)
    await response.prepare(request)
    await response.write(first)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        await response.write(piece)
    await response.write_eof()
    return response


def _pieces(result: RunResult) -> Iterator[bytes]:
    """Yield the answer's JSON, a piece at a time."""
    yield b'{"exitCode":%d,"result":"' % result.exit_code
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for piece in _output(result):
        yield wire.encode(decoder.decode(piece))[1:-1]
    yield wire.encode(decoder.decode(b"", final=True))[1:-1] + b'"}'


def _output(result: RunResult) -> Iterator[bytes]:
    """Yield the spooled output: the head, then what was kept of the tail, in order."""
    assert result.spool is not None  # noqa: S101 - the caller asked
    with open(result.spool.path, "rb") as file:  # noqa: PTH123
        for start, end in result.spool.ranges:
            file.seek(start)
            left = end - start
            while left:
                piece = file.read(min(PIECE_BYTES, left))
                if not piece:
                    raise OSError("the spooled output was cut short")
                left -= len(piece)
                yield piece
