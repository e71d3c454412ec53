"""Messages are found in any stream that leads to one, and in no other."""

import pytest
from hypothesis import given, strategies as st

from agent.lsp.framing import HEADER_MAX_BYTES, Framer, FramingError, frame

BODIES = st.lists(st.binary(max_size=200), max_size=8)


@given(BODIES, st.integers(1, 50))
def test_messages_arrive_whole_however_they_are_cut(
    bodies: list[bytes], size: int
) -> None:
    stream = b"".join(map(frame, bodies))
    framer = Framer()

    found = [
        each
        for at in range(0, len(stream), size)
        for each in framer.feed(stream[at : at + size])
    ]

    assert found == bodies


@pytest.mark.parametrize(
    "stream",
    [
        b"content-length: 2\r\n\r\n{}",
        b"Content-Type: x\r\nContent-Length:2\r\n\r\n{}",
        b"Content-Length: 2\n\n{}",
        b"Loading...\nwarning\n\nContent-Length: 2\r\n\r\n{}",
        b"no line end Content-Length: 2\r\n\r\n{}",
        b"\r\n\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_what_stands_around_a_message_is_read_past(stream: bytes) -> None:
    assert Framer().feed(stream + frame(b"[]")) == [b"{}", b"[]"]


@pytest.mark.parametrize(
    "stream",
    [
        b"Content-Length: 2147483648\r\n\r\n",
        b"Content-Length: x\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: " + b"9" * 1000 + b"\r\n\r\n",
        b"x" * (HEADER_MAX_BYTES + 1),
        b"x\n" * HEADER_MAX_BYTES,
    ],
)
def test_what_leads_to_no_message_is_given_up(stream: bytes) -> None:
    with pytest.raises(FramingError):
        Framer().feed(stream)


@given(st.binary(max_size=4000))
def test_no_input_does_anything_but_give_messages_or_up(stream: bytes) -> None:
    try:
        found = Framer(message_max_bytes=100).feed(stream)
    except FramingError:
        return
    assert all(len(each) <= 100 for each in found)
