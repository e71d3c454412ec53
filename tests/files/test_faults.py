"""What survives when the agent is killed, and what a transfer costs it in memory."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.files.deletion import delete

from .conftest import TOKEN, strays

MIB = 1024 * 1024
ROOT = Path(__file__).parents[2]


@dataclass
class Process:
    """A server in a process of its own."""

    port: int
    process: "subprocess.Popen[bytes]"

    def request(
        self, method: str, target: str, body: bytes = b"", **headers: str
    ) -> int:
        """Send a request; return the size of its answer, which must be a success."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        with closing(connection):
            connection.request(
                method, target, body, {"Authorization": f"Bearer {TOKEN}", **headers}
            )
            response = connection.getresponse()
            assert response.status == 200
            received = 0
            while data := response.read(MIB):
                received += len(data)
            return received

    def upload(self, size: int) -> socket.socket:
        """Begin an upload of `size` bytes to the file `f`."""
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.sendall(
            f"POST /files/upload-v2?path=f HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Authorization: Bearer {TOKEN}\r\nContent-Length: {size}\r\n\r\n".encode()
        )
        return sock

    def memory_kib(self, name: str) -> int:
        """Return a figure of the process's status."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition(f"{name}:")[2].split()[0])

    def growth(self, work: Callable[[], None]) -> int:
        """Return by how many KiB the process grew at most while `work` ran."""
        before = self.memory_kib("VmRSS")
        # Makes the high-water mark begin again (man 5 proc).
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        work()
        return self.memory_kib("VmHWM") - before


@contextmanager
def server(work_dir: Path, state_dir: Path) -> Iterator[Process]:
    """Run a server; it is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.files.server_process", work_dir, state_dir],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        try:
            yield Process(int(process.stdout.readline()), process)
        finally:
            process.kill()


@pytest.fixture
def dirs(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "work").mkdir()
    (tmp_path / "state").mkdir(0o700)
    return tmp_path / "work", tmp_path / "state"


@pytest.mark.timeout(60)
def test_a_killed_agent_leaves_the_old_or_the_new_file_and_the_next_one_clears_up(
    dirs: tuple[Path, Path],
) -> None:
    work, state = dirs
    old, new = b"o" * 3 * MIB, b"n" * 5 * MIB
    (work / "f").write_bytes(old)
    seen = set()

    for sent in (0, 1, MIB, 2 * MIB + 1, 4 * MIB, 5 * MIB - 1, 5 * MIB):
        with server(work, state) as running:
            # The sweep of the one before has begun; any answer comes after it.
            sock = running.upload(len(new))
            sock.sendall(new[:sent])
            if sent == len(new):
                assert sock.recv(12) == b"HTTP/1.1 200"
            elif sent > MIB:
                while not strays(work):
                    time.sleep(0.001)
            running.process.send_signal(signal.SIGKILL)
            running.process.wait()
            sock.close()
        content = (work / "f").read_bytes()
        assert content in {old, new}
        seen.add(content)
    left = strays(work)

    with server(work, state) as running:
        running.request("GET", "/files/info?path=f")
        while strays(work):
            time.sleep(0.001)

    assert seen == {old, new}
    assert len(left) <= 1


@pytest.fixture
def memory_dirs() -> Iterator[tuple[Path, Path]]:
    memory = Path("/dev/shm")
    top = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    (top / "work").mkdir()
    (top / "state").mkdir(0o700)
    yield top / "work", top / "state"
    delete(str(top), recursive=True)


SIZES = [
    pytest.param(256 * MIB, marks=pytest.mark.timeout(60)),
    pytest.param(2048 * MIB, marks=[pytest.mark.long, pytest.mark.timeout(300)]),
]


@pytest.mark.parametrize("size", SIZES)
def test_memory_does_not_grow_with_what_is_transferred(
    memory_dirs: tuple[Path, Path], size: int
) -> None:
    block = os.urandom(MIB)
    form_head = b'--XX\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
    form_end = b"\r\n--XX--\r\n"

    def send(sock: socket.socket, head: bytes = b"", end: bytes = b"") -> None:
        sock.sendall(head)
        for _ in range(size // MIB):
            sock.sendall(block)
        sock.sendall(end)
        assert sock.recv(12) == b"HTTP/1.1 200"
        sock.close()

    def upload_form() -> None:
        sock = socket.create_connection(("127.0.0.1", running.port))
        length = size + len(form_head) + len(form_end)
        sock.sendall(
            f"POST /files/upload?path=f HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\n"
            f"Authorization: Bearer {TOKEN}\r\nContent-Length: {length}\r\n"
            "Content-Type: multipart/form-data; boundary=XX\r\n\r\n".encode()
        )
        send(sock, form_head, form_end)

    def download(method: str, target: str, body: bytes = b"") -> None:
        received = running.request(method, target, body)
        assert size <= received <= size + 1000

    with server(*memory_dirs) as running:
        # What is loaded on first use is no growth.
        running.request("POST", "/files/bulk-download", b'{"paths":["x"]}')
        running.request(
            "POST", "/files/upload?path=x", form_head + form_end,
            **{"Content-Type": "multipart/form-data; boundary=XX"},
        )  # fmt: skip
        grown = {
            "raw": running.growth(lambda: send(running.upload(size))),
            "form": running.growth(upload_form),
            "download": running.growth(
                lambda: download("GET", "/files/download?path=f")
            ),
            "bulk": running.growth(
                lambda: download("POST", "/files/bulk-download", b'{"paths":["f"]}')
            ),
        }

    assert {name: kib for name, kib in grown.items() if kib >= 16 * 1024} == {}
