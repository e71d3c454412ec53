"""Turns what a command wrote into the answer, whatever its size.

A short output is encoded as it stands. A long one was spooled by the keeper and is
streamed: read, decoded and escaped a piece at a time. Bytes that are not UTF-8 become
U+FFFD.
"""

import codecs
from collections.abc import Iterator

from agent import wire
from agent.keeper.client import RunResult
from agent.process.models import ExecuteResponse
from agent.web.idempotency import Answered
from agent.web.stream import in_threads

DROPPED_HEADER = "X-Toolbox-Dropped-Bytes"
"""How much of the output, from its middle, is not in the result; absent when none."""

REASON_HEADER = "X-Toolbox-Exit-Reason"
"""Why a command did not exit by itself; absent when it did."""

ODD_ENDS = frozenset({"signalled", "oom-killed", "cpu-limit", "deleted"})

PIECE_BYTES = 256 * 1024
"""Read, escaped and sent at a time; larger gains nothing."""


def inline_result(result: RunResult) -> ExecuteResponse:
    """Return the answer for an output that is in memory."""
    text = result.error or result.output.decode("utf-8", "replace")
    return ExecuteResponse(exit_code=result.exit_code, result=text)


def headers_of(result: RunResult) -> dict[str, str]:
    """Return what is to be told beside the answer: output dropped, and an odd end."""
    headers: dict[str, str] = {}
    if result.dropped_bytes:
        headers[DROPPED_HEADER] = str(result.dropped_bytes)
    if result.reason in ODD_ENDS:
        headers[REASON_HEADER] = result.reason
    return headers


def answer_of(result: RunResult) -> Answered:
    """Return the answer of a command, for whoever stores or sends it."""
    if result.spool is None:
        pieces = in_threads(iter((wire.encode(inline_result(result)),)))
    else:
        pieces = in_threads(pieces_of(result))
    return Answered(status=200, headers=headers_of(result), pieces=pieces)


def pieces_of(result: RunResult) -> Iterator[bytes]:
    """Yield the JSON of an answer whose output is in a file, a piece at a time."""
    yield b'{"exitCode":%d,"result":"' % result.exit_code
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for piece in spooled(result):
        yield wire.encode(decoder.decode(piece))[1:-1]
    yield wire.encode(decoder.decode(b"", final=True))[1:-1] + b'"}'


def spooled(result: RunResult) -> Iterator[bytes]:
    """Yield an output that is in a file: the head, then what was kept of the tail, in order."""
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
