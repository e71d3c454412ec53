"""Starts what the agent is compared with, and compiles what is not Python."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.agent import environment

LIMITS = Path(__file__).parent / "limits"
START_LIMIT_S = 10.0
RETRY_S = 0.0001
"""Between two tries to connect: small against any start that is measured."""


@dataclass(frozen=True)
class StandIn:
    """A running server."""

    port: int
    pid: int


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def connected(port: int, limit_s: float = START_LIMIT_S) -> socket.socket:
    """Return a connection, made as soon as somebody listens."""
    ends = time.monotonic() + limit_s
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=limit_s)
        except ConnectionRefusedError:
            if time.monotonic() > ends:
                raise
            time.sleep(RETRY_S)


@contextlib.contextmanager
def process(words: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program while inside; input and output are pipes that stay open."""
    with subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def python(script: str, *arguments: object) -> list[str]:
    """Return the words that run one of the limits with our own interpreter."""
    return [sys.executable, "-I", str(LIMITS / script), *map(str, arguments)]


@contextlib.contextmanager
def server(script: str, *arguments: object) -> Iterator[StandIn]:
    """Run one of the Python limits on a free port while inside."""
    port = free_port()
    with process(python(script, port, *arguments)) as running:
        connected(port).close()
        yield StandIn(port, running.pid)


@contextlib.contextmanager
def nginx(root: Path) -> Iterator[StandIn]:
    """Run nginx over the files of `root` while inside."""
    port = free_port()
    text = (LIMITS / "nginx.conf").read_text()
    configuration = root / "nginx.conf"
    configuration.write_text(
        text.replace("@port@", str(port)).replace("@root@", str(root))
    )
    with process(["nginx", "-c", str(configuration), "-e", "stderr"]) as running:
        connected(port).close()
        yield StandIn(port, running.pid)


@contextlib.contextmanager
def nginx_proxy(root: Path, behind: int) -> Iterator[StandIn]:
    """Run nginx as a reverse proxy to a port while inside."""
    port = free_port()
    text = (LIMITS / "nginx_proxy.conf").read_text()
    for name, value in (("port", port), ("root", root), ("behind", behind)):
        text = text.replace(f"@{name}@", str(value))
    configuration = root / "nginx_proxy.conf"
    configuration.write_text(text)
    with process(["nginx", "-c", str(configuration), "-e", "stderr"]) as running:
        connected(port).close()
        yield StandIn(port, running.pid)


def compiled(source: Path, directory: Path) -> Path:
    """Compile a C program into `directory` and return its path."""
    program = directory / source.stem
    subprocess.run(["gcc", "-O2", "-o", program, source], check=True)
    return program
