"""Who listens, with many sockets open, against reading the kernel's two tables bare."""

import contextlib
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

from tests.bench.clients import Connection, request
from tests.bench.measure import Bench, Case, Row, interleaved, seconds

SOCKETS = 5000
ASKED = 20
DESCRIPTORS_SPARE = 200


def listening(bench: Bench) -> Iterator[Row]:
    """Measure GET /port while thousands of sockets are connected."""
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    with bench.agent() as agent, _many_sockets(SOCKETS):
        routes = ("/port", "/port/3000/in-use", "/port?verbose=true")
        ours = [request(agent.port, "GET", each, agent.auth) for each in routes]
        with Connection(agent.port) as connection:
            connection.ask(ours[0])
            plain, in_use, verbose, bare = interleaved(
                bench.rounds,
                *(lambda sent=sent: _took_ms(connection, sent) for sent in ours),
                lambda: seconds(lambda: [each.read_bytes() for each in tables]) * 1000,
            )
    for name, found in zip(routes, (plain, in_use, verbose), strict=True):
        yield Row(
            name=f"GET {name} with {SOCKETS} sockets against bare reading",
            ours=found,
            limit=bare,
            unit="ms",
        )


def _took_ms(connection: Connection, sent: bytes) -> float:
    took = seconds(lambda: [connection.ask(sent) for _ in range(ASKED)])
    return took / ASKED * 1000


@contextlib.contextmanager
def _many_sockets(count: int) -> Iterator[None]:
    """Have many connections open, both ends of each ours."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + DESCRIPTORS_SPARE
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(
                socket.create_server(("127.0.0.1", 0), backlog=64)
            )
            for _ in range(count // 2):
                stack.enter_context(socket.create_connection(server.getsockname()))
                stack.enter_context(server.accept()[0])
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


CASES = (
    Case(
        name="ports",
        about=f"who listens, with {SOCKETS} sockets open, against reading two files",
        run=listening,
    ),
)
