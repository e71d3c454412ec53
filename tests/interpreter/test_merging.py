"""Three streams, put back into the order in which they were written."""

import pytest
from hypothesis import given, strategies as st

from agent.interpreter.merging import (
    CONTROL,
    HELD_MAX_BYTES,
    STDERR,
    STDOUT,
    BrokenError,
    Merger,
    Text,
)
from agent.interpreter.models import Word
from agent.keeper.client import Chunk

MARK = "\x1e0123456789abcdef\x1e"
TEXTS = st.text(st.sampled_from("a\x1e0é€😀\n"), max_size=12)
SEGMENT = st.tuples(TEXTS, TEXTS)


def chunk(stream: int, content: bytes) -> Chunk:
    return Chunk(offset=0, stream=stream, time=0.0, data=content)


def merged(pieces: list[tuple[int, bytes]]) -> list[Text | Word]:
    merger = Merger(MARK.encode())
    events = [e for stream, piece in pieces for e in merger.feed(chunk(stream, piece))]
    return [*events, *merger.end()]


@st.composite
def written(
    draw: st.DrawFn,
) -> tuple[list[tuple[str, str]], list[tuple[int, bytes]]]:
    """Make what a worker writes around its messages, and how it happens to be read."""
    segments = draw(st.lists(SEGMENT, min_size=1, max_size=4))
    streams = {
        STDOUT: MARK.join(out for out, _ in segments).encode(),
        STDERR: MARK.join(err for _, err in segments).encode(),
        CONTROL: b"".join(
            b'{"type":"display","text":"%d"}\n' % number
            for number in range(len(segments) - 1)
        ),
    }
    pieces = []
    while any(streams.values()):
        stream = draw(st.sampled_from([each for each in streams if streams[each]]))
        size = draw(st.integers(1, len(streams[stream])))
        pieces.append((stream, streams[stream][:size]))
        streams[stream] = streams[stream][size:]
    return segments, pieces


@given(written())
def test_messages_stand_between_what_was_written_before_and_after(
    example: tuple[list[tuple[str, str]], list[tuple[int, bytes]]],
) -> None:
    segments, pieces = example

    seen = [{"stdout": "", "stderr": ""}]
    for event in merged(pieces):
        if isinstance(event, Text):
            seen[-1][event.stream] += event.text
        else:
            assert event.text == str(len(seen) - 1)
            seen.append({"stdout": "", "stderr": ""})

    assert [(each["stdout"], each["stderr"]) for each in seen] == segments


def test_what_cannot_be_a_mark_is_told_at_once() -> None:
    merger = Merger(MARK.encode())

    (event,) = merger.feed(chunk(STDOUT, b"no mark \x1e01x"))

    assert event == Text("stdout", "no mark \x1e01x")


def test_half_a_character_before_a_message_is_replaced_there() -> None:
    content = b"\xe2\x82" + MARK.encode() + b"\xac"

    events = merged(
        [(STDOUT, content), (STDERR, MARK.encode()), (CONTROL, b'{"type":"done"}\n')]
    )

    assert events[0] == Text("stdout", "\N{REPLACEMENT CHARACTER}")
    assert isinstance(events[1], Word)
    assert events[2] == Text("stdout", "\N{REPLACEMENT CHARACTER}")


def test_answers_to_a_request_wait_for_nothing() -> None:
    events = merged([(CONTROL, b'{"type":"more"}\n{"type":"begun"}\n')])

    assert [each.type for each in events if isinstance(each, Word)] == ["more", "begun"]


@pytest.mark.parametrize(
    "pieces",
    [
        [(CONTROL, b"no json\n")],
        [(CONTROL, b"\xff\n")],
        [(CONTROL, b"x" * 9_000_000)],
        [(STDOUT, MARK.encode() + b"x" * (HELD_MAX_BYTES + 1))],
    ],
)
def test_what_no_worker_writes_is_found_out(pieces: list[tuple[int, bytes]]) -> None:
    with pytest.raises(BrokenError):
        merged(pieces)
