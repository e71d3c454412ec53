"""Turns what code wrote and drew into the answer, whatever its size.

As `agent.process.result`: a short output is encoded as it stands, a long one was spooled
and is streamed. Lines of artifacts are taken out on the way, and become charts at the end.
"""

import codecs
from collections.abc import Iterator

from agent import wire
from agent.keeper.client import RunResult
from agent.process.coderun.charts import piped_charts, printed_chart, strict
from agent.process.coderun.marked import MARKER, MarkedLines
from agent.process.coderun.models import Artifacts, Chart, CodeRunResponse
from agent.process.result import headers_of, spooled
from agent.web.idempotency import Answered
from agent.web.stream import in_threads
from agent.wire import UNSET


def is_light(result: RunResult) -> bool:
    """Tell whether the answer is made so fast that it needs no thread."""
    # A single marker means JSON of any depth, which is parsed by Python.
    return result.spool is None and not result.control and MARKER not in result.output


def inline_answer(result: RunResult, *, takes_new_fields: bool) -> CodeRunResponse:
    """Return the answer for an output that is in memory."""
    lines = MarkedLines()
    text = lines.feed(result.output) + lines.finish()
    charts = _charts(result, lines, takes_new_fields=takes_new_fields)
    return CodeRunResponse(
        exit_code=result.exit_code,
        result=result.error or text.decode("utf-8", "replace"),
        artifacts=Artifacts(charts=charts) if charts else UNSET,
    )


def answer_of(result: RunResult, *, takes_new_fields: bool) -> Answered:
    """Return the answer for whoever stores it; made in threads."""
    if result.spool is None:
        pieces = _whole(result, takes_new_fields=takes_new_fields)
    else:
        pieces = pieces_of(result, takes_new_fields=takes_new_fields)
    return Answered(status=200, headers=headers_of(result), pieces=in_threads(pieces))


def _whole(result: RunResult, *, takes_new_fields: bool) -> Iterator[bytes]:
    yield encoded_answer(result, takes_new_fields=takes_new_fields)


def encoded_answer(result: RunResult, *, takes_new_fields: bool) -> bytes:
    """Return the same as JSON."""
    return wire.encode(inline_answer(result, takes_new_fields=takes_new_fields))


def pieces_of(result: RunResult, *, takes_new_fields: bool) -> Iterator[bytes]:
    """Yield the JSON of an answer whose output is in a file, a piece at a time."""
    yield b'{"exitCode":%d,"result":"' % result.exit_code
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    lines = MarkedLines()
    for piece in spooled(result):
        yield wire.encode(decoder.decode(lines.feed(piece)))[1:-1]
    yield wire.encode(decoder.decode(lines.finish(), final=True))[1:-1] + b'"'
    charts = _charts(result, lines, takes_new_fields=takes_new_fields)
    if charts:
        yield b',"artifacts":' + wire.encode(Artifacts(charts=charts))
    yield b"}"


def _charts(
    result: RunResult, lines: MarkedLines, *, takes_new_fields: bool
) -> list[Chart]:
    printed = filter(None, map(printed_chart, lines.artifacts))
    charts = [*piped_charts(result.control), *printed]
    return charts if takes_new_fields else strict(charts)
