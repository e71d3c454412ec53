"""Our messages through the clients' own demultiplexers, cut at every place."""

import itertools
import json
import random
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest

from agent.keeper.client import Chunk
from agent.sessions.labels import Messages
from tests.clients.conftest import SCRIPTS
from tests.clients.environments import NODE, node_with, python_with

pytestmark = [pytest.mark.clients, pytest.mark.timeout(280)]

Piece = tuple[int, bytes]

TEXT = "é漢🙂".encode()
CLIENTS = ["python 0.226.1", "python 0.160.0", "javascript"]


def demultiplexed(client: str, cases: list[list[bytes]]) -> list[list[str]]:
    """Return what a client makes of lists of messages: stdout and stderr of each."""
    words, directory = words_of(client)
    sent = [[b64encode(message).decode() for message in case] for case in cases]
    done = subprocess.run(
        words,
        cwd=directory,
        input=json.dumps(sent).encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    told: list[list[str]] = json.loads(done.stdout.splitlines()[-1])
    return told


def words_of(client: str) -> tuple[list[str], Path]:
    if client == "javascript":
        script = str(SCRIPTS / "demultiplexer.cjs")
        return [str(NODE), script], node_with("@daytonaio/sdk", "0.218.0")
    python = str(python_with("daytona", client.split()[1]))
    return [python, "-B", str(SCRIPTS / "python_demultiplexer.py")], SCRIPTS


def cuts(text: bytes) -> list[list[bytes]]:
    """Return every way to cut a text."""
    found = []
    for count in range(len(text)):
        for places in itertools.combinations(range(1, len(text)), count):
            ends = [0, *places, len(text)]
            found.append([text[a:b] for a, b in itertools.pairwise(ends)])
    return found


def messages_of(pieces: list[Piece], *, flush: bool = False) -> list[bytes]:
    """Return the messages made of pieces, sent as they come."""
    cutter = Messages(labelled=True)
    found = []
    for stream, data in pieces:
        cutter.add(Chunk(offset=0, stream=stream, time=0.0, data=data))
        found += cutter.take(flush=flush)
    return found + cutter.take(flush=True)


def texts_of(pieces: list[Piece]) -> list[str]:
    return [
        b"".join(data for stream, data in pieces if stream == wanted).decode()
        for wanted in (1, 2)
    ]


@pytest.mark.parametrize("client", CLIENTS)
def test_characters_cut_anywhere_come_out_whole(client: str) -> None:
    cases = []
    for pieces in cuts(TEXT):
        alone = [(1, piece) for piece in pieces]
        in_turn = [(stream, piece) for piece in pieces for stream in (1, 2)]
        cases += [alone, in_turn]

    for flush in (False, True):
        told = demultiplexed(client, [messages_of(case, flush=flush) for case in cases])

        assert told == [texts_of(case) for case in cases]


@pytest.mark.parametrize("client", CLIENTS)
def test_long_outputs_in_turns_come_out_whole(client: str) -> None:
    chance = random.Random(6)
    letters = "aé漢🙂\n\r"
    cases: list[list[Piece]] = []
    for _ in range(10):
        case = []
        for _ in range(chance.randrange(1, 12)):
            size = int(10 ** chance.uniform(0, 4.3))
            text = "".join(chance.choices(letters, k=size)).encode()
            middle = chance.randrange(len(text) + 1)
            stream = chance.choice((1, 2))
            case += [(stream, text[:middle]), (stream, text[middle:])]
        cases.append([piece for piece in case if piece[1]])

    told = demultiplexed(client, [messages_of(case) for case in cases])

    assert told == [texts_of(case) for case in cases]


@pytest.mark.parametrize("client", CLIENTS)
def test_single_bytes_and_lone_errors_are_delivered(client: str) -> None:
    cases: list[list[Piece]] = [
        [(1, b"a")],
        [(2, b"b")],
        [(1, b"a"), (2, b"b")],
        [(2, b"b"), (1, b"a"), (2, b"c")],
        [],
    ]

    told = demultiplexed(client, [messages_of(case) for case in cases])

    assert told == [texts_of(case) for case in cases]
