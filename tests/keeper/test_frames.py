"""The line between keeper and api, and what comes over it that should not."""

import asyncio
import json
import os
import socket
import struct
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from agent.keeper.client import Spec
from agent.keeper.frames import (
    HEADER_MAX_BYTES,
    PAYLOAD_MAX_BYTES,
    Decoder,
    FrameError,
    Header,
    dump,
    head,
    load,
)
from agent.keeper.link import QUEUE_MAX_BYTES, Link
from agent.keeper.loop import Loop
from tests.keeper.harness import running

SURROGATES = st.characters(codec="utf-8") | st.integers(0xDC80, 0xDCFF).map(chr)
TEXT = st.text(SURROGATES, max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
    ),
    max_leaves=8,
)
HEADERS = st.dictionaries(TEXT, JSON, max_size=4)
FRAMES = st.lists(st.tuples(HEADERS, st.binary(max_size=300)), max_size=6)


@given(FRAMES, st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_frames_survive_any_cut(
    frames: list[tuple[Header, bytes]], cuts: list[int]
) -> None:
    wire = b"".join(head(header, len(body)) + body for header, body in frames)
    decoder = Decoder()
    found: list[tuple[Header, bytes]] = []

    at = 0
    for i in range(len(wire) + 1):
        size = cuts[i % len(cuts)]
        found += decoder.feed(wire[at : at + size])
        at += size
        if at >= len(wire):
            break

    assert found == frames


@given(st.binary(max_size=200), st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_junk_is_frames_or_a_frame_error_and_nothing_else(
    junk: bytes, cuts: list[int]
) -> None:
    decoder = Decoder()
    try:
        for i in range(0, len(junk), cuts[0]):
            for header, body in decoder.feed(junk[i : i + cuts[0]]):
                assert isinstance(header, dict)
                assert isinstance(body, bytes)
    except FrameError:
        return


@pytest.mark.parametrize(
    "prefix", [(HEADER_MAX_BYTES + 1, 0), (0, PAYLOAD_MAX_BYTES + 1)]
)
def test_a_length_past_its_limit_is_refused_before_it_is_waited_for(
    prefix: tuple[int, int],
) -> None:
    with pytest.raises(FrameError):
        Decoder().feed(struct.pack(">II", *prefix))


def test_what_is_too_large_is_not_sent() -> None:
    with pytest.raises(FrameError):
        head({"x": "y" * HEADER_MAX_BYTES})
    with pytest.raises(FrameError):
        head({}, PAYLOAD_MAX_BYTES + 1)


def test_deep_nesting_is_a_frame_error() -> None:
    with pytest.raises(FrameError):
        load(b'{"a":' + b"[" * 100_000)


@given(HEADERS)
def test_an_object_survives_its_way_as_a_payload(header: Header) -> None:
    assert load(dump(header)) == header


def test_a_link_whose_other_side_does_not_read_is_closed() -> None:
    loop = Loop()
    ours, theirs = socket.socketpair()
    closed: list[bool] = []
    link = Link(loop, ours, lambda *_: None, lambda: closed.append(True), lambda: None)

    sent = 0
    while link.open and sent < 2 * QUEUE_MAX_BYTES:
        link.send({}, b"x" * (1 << 20))
        sent += 1 << 20
        loop.soon(lambda: None)
        loop.turn()

    assert closed == [True]
    assert QUEUE_MAX_BYTES <= sent <= QUEUE_MAX_BYTES + (2 << 20)
    assert loop.descriptors() == 0
    theirs.close()
    loop.close()


def test_what_waits_is_sent_in_order_once_there_is_room() -> None:
    loop = Loop()
    ours, theirs = socket.socketpair()
    room: list[bool] = []
    link = Link(loop, ours, lambda *_: None, lambda: None, lambda: room.append(True))
    bodies = [bytes([i]) * 500_000 for i in range(24)]
    for i, body in enumerate(bodies):
        link.send({"i": i}, body)
    assert link.crowded

    decoder = Decoder()
    found: list[tuple[Header, bytes]] = []
    while len(found) < 24:
        loop.soon(lambda: None)
        loop.turn()
        found += decoder.feed(theirs.recv(65536))

    assert [header["i"] for header, _ in found] == list(range(24))
    assert [body for _, body in found] == bodies
    loop.soon(lambda: None)
    loop.turn()
    assert room
    link.close()
    theirs.close()
    loop.close()


# -- against a real keeper --------------------------------------------------------

OPERATIONS = [
    "ready", "drained", "pong", "run", "spawn", "info", "list", "wait", "signal",
    "end", "write", "eof", "resize", "forget", "subscribe", "credit", "unsubscribe",
    "env.get", "kv.set", "kv.get", "kv.delete", "kv.list", "stats", "nonsense",
]  # fmt: skip
NAMES = [
    "job", "argv", "cwd", "env", "output", "stdin", "timeout_s", "max_bytes", "kept",
    "label", "kind", "rows", "columns", "signal", "group", "grace_s", "sub", "offset",
    "credit", "bytes", "name",
]  # fmt: skip
VALUES = JSON | st.sampled_from(
    ["J", ["true"], ["/bin/sh", "-c", "exit 3"], "pty", "pipe", "split", 0, -1, 2**62]
)
Request = tuple[str, Header, bytes]
UNANSWERED = {"pong", "credit", "unsubscribe", "wait", "end"}
"""Those that have no answer, and those whose answer may be long in coming."""
REQUESTS: st.SearchStrategy[Request] = st.tuples(
    st.sampled_from(OPERATIONS),
    st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6),
    st.binary(max_size=50),
)


class Wire:
    """The api's side of a line, without a client that would make sense of it."""

    def __init__(self, fd: int) -> None:
        self._line = socket.socket(fileno=fd)
        self._line.settimeout(5)
        self._decoder = Decoder()
        # The listening sockets come before the first frame.
        _, fds, _, _ = socket.recv_fds(self._line, 1, 2)
        for each in fds:
            os.close(each)

    def exchange(self, requests: list[Request]) -> None:
        """Send requests as an api would, and take all their answers."""
        wanted = set()
        for number, (operation, more, body) in enumerate(requests, 1):
            if operation not in UNANSWERED:
                wanted.add(number)
            header = {**more, "id": number, "op": operation}
            self._line.sendall(head(header, len(body)) + body)
        while wanted:
            for header, _ in self._decoder.feed(self._line.recv(65536)):
                answer = header.get("re")
                if answer is not None:
                    wanted.discard(cast("int", answer))
                    assert ("error" in header) != ("ok" in header), header

    def close(self) -> None:
        """Leave the descriptor to its owner."""
        self._line.detach()


def is_quiet(request: Request) -> bool:
    """Leave out the runs that would last: the fuzz is of frames, not of programs."""
    return not (request[0] in {"run", "spawn"} and request[1].get("stdin") == "pipe")


@pytest.mark.timeout(60)
async def test_no_request_hurts_the_keeper(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        api = await house.next_api()
        examples: list[list[Request]] = []

        @given(st.lists(REQUESTS.filter(is_quiet), min_size=1, max_size=10))
        @settings(
            max_examples=300,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def collect(requests: list[Request]) -> None:
            examples.append(requests)

        collect()
        wire = Wire(api.line)
        for requests in examples:
            await asyncio.to_thread(wire.exchange, requests)
        wire.close()

        assert house.process.poll() is None
        assert "Traceback" not in house.log.read_text()
        api.kill()
        keeper = await house.open()
        assert (await keeper.run(Spec(argv=["echo", "on"]))).output == b"on\n"
        assert keeper.generation == 2
        assert json.loads(house.settings.to_json())["host"] == keeper.settings.host
