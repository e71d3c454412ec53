"""Archives of any size pass in constant memory, both ways."""

import http.client
import os
import tarfile
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.bench.measure import MIB, peak_growth
from tests.support.agent import Agent, StartAgent

pytestmark = [pytest.mark.root, pytest.mark.agent]

LARGE = 512 * MIB
FILES = 2000
GROWTH_MAX = 24 * MIB
"""Sixteen, and the modules that are loaded by the first archive."""


@pytest.fixture
def agent(start_agent: StartAgent) -> Agent:
    return start_agent(measured=False)


def ask(agent: Agent, method: str, path: str, body: Iterator[bytes] | None) -> int:
    """Make a request and return how long the answer is."""
    connection = http.client.HTTPConnection(agent.host, agent.port, timeout=30)
    with closing(connection):
        connection.request(
            method, path, body, agent.auth, encode_chunked=body is not None
        )
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        return sum(len(piece) for piece in iter(lambda: answer.read(MIB), b""))


@pytest.mark.timeout(60)
@pytest.mark.skipif(os.geteuid() != 0, reason="the agent hides its memory from others")
def test_a_large_tree_passes_in_constant_memory(agent: Agent) -> None:
    tree = agent.work_dir / "tree"
    tree.mkdir()
    with (tree / "large").open("wb") as file:
        file.truncate(LARGE)
    for number in range(FILES):
        (tree / f"file-{number}").write_bytes(b"x" * 1000)
    agent.request("GET", "/health")

    with peak_growth([agent.pid, agent.api_pid()]) as growth:
        assert ask(agent, "GET", "/files/archive?path=tree&format=tar", None) > LARGE

    assert max(growth) < GROWTH_MAX


@pytest.mark.timeout(60)
@pytest.mark.skipif(os.geteuid() != 0, reason="the agent hides its memory from others")
def test_a_large_archive_is_unpacked_in_constant_memory(
    agent: Agent,
) -> None:
    agent.request("GET", "/health")

    def body() -> Iterator[bytes]:
        head = tarfile.TarInfo("large")
        head.size = LARGE
        yield head.tobuf()
        for _ in range(LARGE // MIB):
            yield bytes(MIB)
        yield bytes(1024)

    with peak_growth([agent.pid, agent.api_pid()]) as growth:
        assert ask(agent, "POST", "/files/extract?path=out", body()) > 0

    assert (agent.work_dir / "out/large").stat().st_size == LARGE
    assert max(growth) < GROWTH_MAX
