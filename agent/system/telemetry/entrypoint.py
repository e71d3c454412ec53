"""The lines that the sandbox's own command writes."""

from collections.abc import AsyncIterator

import msgspec

from agent.errors import NotFoundError
from agent.keeper.client import Keeper

ENTRYPOINT = "entrypoint"
"""The job id of the image's own command."""
LINE_BYTES = 64 * 1024
"""Longer lines are told in pieces."""
STREAMS = {1: "stdout", 2: "stderr"}


class Line(msgspec.Struct, frozen=True):
    """One line of the entrypoint."""

    stream: str
    time: float
    """Unix seconds."""
    text: str
    end: int
    """The offset after it in the log."""


async def follow_entrypoint(keeper: Keeper, offset: int) -> AsyncIterator[Line]:
    """Yield the lines from an offset on, until the command and its output have ended."""
    rests = dict.fromkeys(STREAMS.values(), b"")
    try:
        async with keeper.subscribe(ENTRYPOINT, offset=offset) as output:
            async for chunk in output:
                stream = STREAMS.get(chunk.stream)
                if stream is None:
                    continue
                end = chunk.offset + len(chunk.data)
                *lines, rest = (rests[stream] + chunk.data).split(b"\n")
                rests[stream] = rest
                if len(rest) >= LINE_BYTES:
                    lines.append(rest)
                    rests[stream] = b""
                for line in lines:
                    yield Line(stream, chunk.time, line.decode(errors="replace"), end)
    except NotFoundError:
        # There is no such command, or it was forgotten.
        return
