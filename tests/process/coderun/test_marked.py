"""Lines of artifacts are taken out, wherever the output is cut into pieces."""

from itertools import pairwise

from hypothesis import given, strategies as st

from agent.process.coderun import marked
from agent.process.coderun.marked import MARKER, MarkedLines

FRAGMENTS = st.sampled_from(
    [
        MARKER,
        MARKER[:-1],
        MARKER[1:],
        MARKER[:1],
        b"\n",
        b"\n\n",
        b"\r\n",
        b"x",
        b"{}",
        b" ",
        "ü".encode(),
        b"\xff\0",
    ]
)
OUTPUTS = st.lists(FRAGMENTS, max_size=12).map(b"".join)


def by_the_rule(output: bytes) -> tuple[bytes, list[bytes]]:
    """Do what the contract says, on the whole output at once."""
    lines = output.split(b"\n")
    text = [each for each in lines if not each.startswith(MARKER)]
    found = [each[len(MARKER) :] for each in lines if each.startswith(MARKER)]
    return b"\n".join(text), found


def divided(pieces: list[bytes]) -> tuple[bytes, list[bytes]]:
    lines = MarkedLines()
    text = b"".join([*map(lines.feed, pieces), lines.finish()])
    return text, lines.artifacts


@given(OUTPUTS)
def test_the_whole_output_is_divided_as_the_contract_says(output: bytes) -> None:
    assert divided([output]) == by_the_rule(output)


@given(OUTPUTS)
def test_it_does_not_matter_where_the_output_is_cut(output: bytes) -> None:
    wanted = by_the_rule(output)

    for place in range(len(output) + 1):
        assert divided([output[:place], output[place:]]) == wanted
    assert divided([output[at : at + 1] for at in range(len(output))]) == wanted


@given(OUTPUTS, st.data())
def test_any_number_of_pieces_gives_the_same(
    output: bytes, data: st.DataObject
) -> None:
    places = st.lists(st.integers(0, len(output)), max_size=8).map(sorted)
    cuts = [0, *data.draw(places), len(output)]

    pieces = [output[a:b] for a, b in pairwise(cuts)]

    assert divided(pieces) == by_the_rule(output)


def test_text_is_handed_on_as_soon_as_it_cannot_be_a_marker() -> None:
    lines = MarkedLines()

    assert lines.feed(b"plain text") == b"plain text"
    assert lines.feed(b"\n" + MARKER[:5]) == b""
    assert lines.feed(b"!") == b"\n" + MARKER[:5] + b"!"


def test_artifacts_past_the_bound_are_dropped_and_later_ones_that_fit_are_not() -> None:
    lines = MarkedLines()
    lines._room = 10

    text = lines.feed(MARKER + b"12345678901\n" + MARKER + b"1234567890\nend")

    assert text + lines.finish() == b"end"
    assert lines.artifacts == [b"1234567890"]


def test_a_line_without_end_takes_no_more_memory_than_the_bound() -> None:
    lines = MarkedLines()
    lines._room = 1000
    lines.feed(MARKER)

    for _ in range(1000):
        assert lines.feed(b"x" * 1000) == b""

    assert lines._artifact is not None
    assert len(lines._artifact) <= 1001
    lines.finish()
    assert lines.artifacts == []
    assert marked.ARTIFACTS_MAX_BYTES == 32 * 1024 * 1024
