"""Finding text in pieces, however it is cut; and where it lies in the log."""

import re

from hypothesis import given, strategies as st

from agent.process.wait.program import LINE_MAX_BYTES, Lines
from agent.process.wait.text import Literal, Tail

PIECES = st.lists(
    st.tuples(st.sampled_from([1, 2]), st.text("ab\n", max_size=5)), max_size=12
)


def placed(pieces: list[tuple[int, str]]) -> list[tuple[int, int, bytes]]:
    """Return the pieces with their places in the log."""
    found, offset = [], 0
    for stream, text in pieces:
        if text:
            found.append((stream, offset, text.encode()))
            offset += len(text)
    return found


def bytes_of(pieces: list[tuple[int, int, bytes]], stream: int) -> list[int]:
    """Return where in the log the bytes of an output stand."""
    return [
        offset + number
        for each, offset, data in pieces
        if each == stream
        for number in range(len(data))
    ]


@given(PIECES, st.text("ab\n", min_size=1, max_size=3))
def test_a_text_is_found_however_it_is_cut(
    pieces: list[tuple[int, str]], pattern: str
) -> None:
    log = placed(pieces)
    literal = Literal(pattern.encode())

    found = None
    for piece in log:
        if found := literal.look(*piece):
            break

    texts = {
        stream: b"".join(data for each, _, data in log if each == stream)
        for stream in (1, 2)
    }
    assert (found is not None) == any(
        pattern.encode() in each for each in texts.values()
    )
    if found is not None:
        at = texts[found.stream].find(pattern.encode())
        places = bytes_of(log, found.stream)
        assert found.match == pattern
        assert found.offset == places[at]
        assert found.end == places[at + len(pattern) - 1] + 1


@given(PIECES)
def test_an_expression_finds_the_first_line_however_it_is_cut(
    pieces: list[tuple[int, str]],
) -> None:
    log = [each for each in placed(pieces) if each[0] == 1]
    lines = Lines(re.compile("^ab$"), 1)

    found = None
    for _, offset, data in log:
        if found := lines.add(offset, data):
            break

    text = b"".join(data for _, _, data in log)
    finished = text.decode().split("\n")[:-1]
    assert (found is not None) == ("ab" in finished)
    if found is not None:
        at = len("".join(f"{line}\n" for line in finished[: finished.index("ab")]))
        places = bytes_of(log, 1)
        assert (found.offset, found.end) == (places[at], places[at + 1] + 1)


def test_a_tail_forgets_what_it_has_dealt_with() -> None:
    tail = Tail(1)
    for number in range(1000):
        tail.add(number * 10, b"12345")
        tail.drop(len(tail.content) - 3)

    assert tail.content == b"345"
    assert len(tail._places) <= 2
    assert tail.offset_of(0) == 9992


def test_an_unfinished_line_is_looked_at_as_it_grows() -> None:
    lines = Lines(re.compile("thing$"), 1)

    assert lines.add(0, b"some") is None
    assert lines.rest() is None
    assert lines.add(4, b"thing") is None
    found = lines.rest()

    assert found is not None
    assert (found.offset, found.line) == (4, "something")
    assert lines.rest() is None


def test_a_long_line_takes_no_more_memory_than_a_piece() -> None:
    lines = Lines(re.compile("needle"), 1)

    for number in range(100):
        assert lines.add(number * 65536, b"x" * 65536) is None
        assert len(lines._tail.content) <= LINE_MAX_BYTES
    found = lines.add(6553600, b"needle\n")

    assert found is not None
    assert found.offset == 6553600
