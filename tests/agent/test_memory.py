"""Memory does not grow with what passes through: two gibibytes up, down, and printed."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.agent import Agent, StartAgent

pytestmark = pytest.mark.alone  # its limits of memory are the contract's


MIB = 1024 * 1024
SIZE = 2048 * MIB
GROWTH_LIMIT = 16 * MIB


@pytest.fixture
def agent(start_agent: StartAgent) -> Agent:
    """Return an agent as it is, since counting what it runs costs memory."""
    return start_agent(measured=False)


def pss(pid: int) -> int:
    """Return the bytes that a process has for itself, its share of shared ones included."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(pid)


class Watch:
    """Samples the memory of both processes while inside.

    Attributes:
        growth: How much each had at its most, above what it had before.
    """

    def __init__(self, agent: Agent) -> None:
        agent.request("GET", "/health")
        self._pids = (agent.pid, agent.api_pid())
        self._before = [pss(pid) for pid in self._pids]
        self._most = list(self._before)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(0.02):
            self._most = [
                max(most, pss(pid))
                for most, pid in zip(self._most, self._pids, strict=True)
            ]

    @property
    def growth(self) -> list[int]:
        """Bytes above the start, of keeper and api."""
        return [
            most - before for most, before in zip(self._most, self._before, strict=True)
        ]


def upload(agent: Agent) -> None:
    """Send a raw body."""
    piece = bytes(range(256)) * 4096
    with agent.connection(60) as connection:
        connection.sendall(
            b"POST /files/upload-v2?path=big HTTP/1.1\r\nHost: x\r\n"
            b"Connection: close\r\nContent-Length: %d\r\nAuthorization: Bearer %s\r\n\r\n"
            % (SIZE, agent.token.encode())
        )
        for _ in range(SIZE // len(piece)):
            connection.sendall(piece)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    assert (agent.work_dir / "big").stat().st_size == SIZE


def download(agent: Agent) -> None:
    """Receive a file."""
    with (agent.work_dir / "big").open("wb") as file:
        file.truncate(SIZE)
    assert received(agent, b"GET /files/download?path=big HTTP/1.1\r\n") > SIZE


def bulk_download(agent: Agent) -> None:
    """Receive a file as the part of a form."""
    with (agent.work_dir / "big").open("wb") as file:
        file.truncate(SIZE)
    body = b'{"paths":["big"]}'
    head = b"POST /files/bulk-download HTTP/1.1\r\nContent-Length: %d\r\n" % len(body)
    assert received(agent, head, body) > SIZE


def execute(agent: Agent) -> None:
    """Run a command that prints it all; what is kept of it is bounded."""
    body = b'{"command":"head -c %d /dev/zero | tr \'\\\\\\\\0\' x"}' % SIZE
    head = b"POST /process/execute HTTP/1.1\r\nContent-Length: %d\r\n" % len(body)
    assert received(agent, head, body) > 256 * MIB


def received(agent: Agent, head: bytes, body: bytes = b"") -> int:
    """Return how many bytes an answer has."""
    total = 0
    with agent.connection(60) as connection:
        auth = b"Authorization: Bearer " + agent.token.encode()
        connection.sendall(
            head + b"Host: x\r\nConnection: close\r\n" + auth + b"\r\n\r\n" + body
        )
        while piece := connection.recv(MIB):
            total += len(piece)
    return total


@pytest.mark.timeout(90)
@pytest.mark.parametrize("transfer", [upload, download, bulk_download, execute])
def test_two_gibibytes_pass_in_constant_memory(
    agent: Agent, transfer: Callable[[Agent], None]
) -> None:
    # What serves them is loaded at the first request, once.
    assert agent.request("GET", "/files").status == 200
    assert agent.execute("true").status == 200

    with Watch(agent) as watch:
        transfer(agent)

    keeper, api = watch.growth
    assert keeper < GROWTH_LIMIT
    assert api < GROWTH_LIMIT
