"""Cutting output into messages: the rules F1 to F6 of contract 31 §6.3."""

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from agent.keeper.client import Chunk
from agent.sessions.labels import Messages, complete, pieces_of, text_of
from tests.sessions.conftest import ERR, MESSAGE_MAX_BYTES, OUT, parts_of

TEXT = "é漢🙂".encode()

# Bytes that hold no marker: a payload with one is misread by every client.
payloads = st.binary(min_size=1, max_size=40).map(
    lambda data: data.replace(b"\x01", b"a").replace(b"\x02", b"b")
)
outputs = st.lists(st.tuples(st.sampled_from((1, 2)), payloads), max_size=12)


def chunk(stream: int, data: bytes) -> Chunk:
    return Chunk(offset=0, stream=stream, time=0.0, data=data)


def cut(
    pieces: list[tuple[int, bytes]],
    *,
    labelled: bool = True,
    flushes: Callable[[int], bool] = lambda _: False,
) -> list[bytes]:
    """Return the messages made of pieces; some may be flushed in between."""
    cutter = Messages(labelled=labelled)
    messages = []
    for number, (stream, data) in enumerate(pieces):
        cutter.add(chunk(stream, data))
        messages += cutter.take(flush=flushes(number))
    return messages + cutter.take(flush=True)


def streams(pieces: list[tuple[int, bytes]]) -> tuple[bytes, bytes]:
    out, err = (
        b"".join(data for stream, data in pieces if stream == wanted)
        for wanted in (1, 2)
    )
    return out, err


@given(outputs, st.integers())
def test_messages_keep_the_rules_and_each_output_every_byte(
    pieces: list[tuple[int, bytes]], flushed: int
) -> None:
    messages = cut(pieces, flushes=lambda number: bool(flushed >> number & 1))

    assert parts_of(messages) == streams(pieces)


@given(outputs)
def test_without_markers_the_order_is_kept_but_for_half_characters(
    pieces: list[tuple[int, bytes]],
) -> None:
    whole = [(stream, data.decode("latin-1").encode()) for stream, data in pieces]

    messages = cut(whole, labelled=False)

    assert b"".join(messages) == b"".join(data for _, data in whole)
    assert all(messages)


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.sampled_from((1, 2)), st.integers(1, 100_000), st.sampled_from("aé漢🙂")
        ),
        max_size=6,
    )
)
def test_long_texts_are_cut_at_32_kib_between_characters(
    runs: list[tuple[int, int, str]],
) -> None:
    pieces = [(stream, (letter * count).encode()) for stream, count, letter in runs]

    messages = cut(pieces)

    assert parts_of(messages) == streams(pieces)
    for message in messages:
        message.decode()


def test_a_long_text_fills_its_messages() -> None:
    messages = cut([(1, b"x" * 1_000_000)])

    assert len(messages) == -(-1_000_000 // (MESSAGE_MAX_BYTES - len(OUT)))


@pytest.mark.parametrize("labelled", [True, False])
def test_every_way_to_split_characters_comes_out_whole(labelled: bool) -> None:
    for count in range(len(TEXT)):
        for places in itertools.combinations(range(1, len(TEXT)), min(count, 3)):
            ends = [0, *places, len(TEXT)]
            pieces = [(1, TEXT[a:b]) for a, b in itertools.pairwise(ends)]

            messages = cut(pieces, labelled=labelled)

            texts = [message.removeprefix(OUT).decode() for message in messages]
            assert "".join(texts) == TEXT.decode()


def test_a_character_waits_for_its_end_while_the_other_output_goes_on() -> None:
    messages = cut([(1, TEXT[:1]), (2, b"x"), (1, TEXT[1:2])])

    assert messages == [ERR + b"x", OUT + TEXT[:2]]


def test_what_waits_is_known_and_comes_with_a_flush() -> None:
    cutter = Messages(labelled=True)
    cutter.add(chunk(2, TEXT[:1]))

    before = cutter.holds_back
    assert cutter.take() == []
    assert cutter.take(flush=True) == [ERR + TEXT[:1]]
    assert (before, cutter.holds_back) == (True, False)
    assert cutter.take(flush=True) == []


@pytest.mark.parametrize("data", [b"\xff", b"\xc0", b"\xf5", b"\xe9x", b"\x80" * 9])
def test_what_is_no_character_waits_for_nothing(data: bytes) -> None:
    assert complete(data) == len(data)


@given(st.text(max_size=6), st.data())
def test_at_most_three_bytes_wait_and_only_those_of_one_character(
    text: str, data: st.DataObject
) -> None:
    whole = text.encode()
    end = data.draw(st.integers(0, len(whole)))

    kept = complete(whole[:end])

    assert 0 <= end - kept <= 3
    if max(text, default="") < "\ud800":
        whole[:kept].decode()


@given(outputs)
def test_the_texts_of_a_snapshot_do_not_depend_on_its_chunks(
    pieces: list[tuple[int, bytes]],
) -> None:
    chunks = [chunk(stream, data) for stream, data in pieces]
    bytewise = [
        chunk(stream, data[at : at + 1])
        for stream, data in pieces
        for at in range(len(data))
    ]

    for number, whole in enumerate(streams(pieces), 1):
        wanted = whole.decode(errors="replace")
        assert text_of(chunks, only=number) == wanted
        assert "".join(pieces_of(bytewise, only=number)) == wanted
    labelled = text_of(chunks, labelled=True).encode()
    parted = parts_of([labelled] if labelled else [])
    assert parted == tuple(
        whole.decode(errors="replace").encode() for whole in streams(pieces)
    )
