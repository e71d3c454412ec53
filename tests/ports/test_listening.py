"""Who listens, as the kernel tells."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.ports.listening import (
    describe,
    in_tables,
    inodes_of,
    listening,
    ports_of,
)
from agent.ports.sock_diag import Listening, ask

Source = Callable[[], list[Listening]]
SOURCES = [ask, in_tables]

NOBODY: frozenset[int] = frozenset()

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 0100007F:0BB9 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0
   2: 0100007F:0BBA 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0 0 10 0
10000: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 444 1 0 100 0 0 10 0
"""


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, "127.0.0.1"),
        (socket.AF_INET, "0.0.0.0"),
        (socket.AF_INET6, "::1"),
        (socket.AF_INET6, "::"),
    ],
)
@pytest.mark.parametrize("source", SOURCES)
def test_a_listener_on_any_address_is_found(
    family: socket.AddressFamily, address: str, source: Source
) -> None:
    with socket.create_server((address, 0), family=family) as server:
        port = server.getsockname()[1]
        inodes = inodes_of([server])
        found = [each for each in source() if each.port == port]

        assert {each.inode for each in found} == inodes
        assert [each.address for each in found] == [address]


@pytest.mark.parametrize("source", SOURCES)
def test_what_does_not_listen_is_not_in_use(source: Source) -> None:
    with (
        socket.socket() as bound,
        socket.socket(type=socket.SOCK_DGRAM) as datagrams,
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as connected,
    ):
        bound.bind(("127.0.0.1", 0))
        datagrams.bind(("127.0.0.1", 0))
        ports = ports_of(source(), NOBODY)

        assert server.getsockname()[1] in ports
        for other in (bound, datagrams, connected):
            assert other.getsockname()[1] not in ports


def test_more_listeners_than_one_answer_holds_are_all_found() -> None:
    with ExitStack() as stack:
        servers = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            for _ in range(600)
        ]
        found = {each.inode for each in ask()}

        assert inodes_of(servers) <= found


def test_where_the_kernel_may_not_be_asked_its_tables_are_read() -> None:
    def refusing() -> list[Listening]:
        raise PermissionError

    with socket.create_server(("127.0.0.1", 0)) as server:
        ports = ports_of(listening(refusing), NOBODY)

        assert server.getsockname()[1] in ports


def test_a_closed_listener_is_gone_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    assert port not in ports_of(listening(), NOBODY)


def test_a_port_is_listed_once_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text(TABLE)
    (tmp_path / "net/tcp6").write_text(TABLE)

    found = in_tables(tmp_path)

    assert [each.inode for each in found] == [111, 444, 111, 444]
    assert ports_of(found, NOBODY) == [3000, 8080]
    assert ports_of(found, frozenset({111})) == [8080]


def test_a_system_without_ipv6_has_its_ports_still(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text(TABLE)

    assert ports_of(in_tables(tmp_path), NOBODY) == [3000, 8080]


def test_the_process_that_listens_is_named() -> None:
    code = (
        "import socket, sys; s = socket.create_server(('::1', 0), family=10);"
        "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, "a word"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        (found,) = [each for each in describe(listening(), NOBODY) if each.port == port]
        assert child.stdin is not None
        child.stdin.close()

    assert (found.address, found.pid) == ("::1", child.pid)
    assert found.command is not None
    assert found.command.endswith("a word")


def test_a_socket_shared_after_a_fork_is_the_parents() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        child = subprocess.Popen(
            [sys.executable, "-c", "input()"],
            stdin=subprocess.PIPE,
            pass_fds=[server.fileno()],
        )
        with child:
            (found,) = [
                each
                for each in describe(listening(), NOBODY)
                if each.port == server.getsockname()[1]
            ]
            assert child.stdin is not None
            child.stdin.write(b"\n")
            child.stdin.close()

    assert found.pid == min(os.getpid(), child.pid)


def test_a_socket_of_nobody_we_can_see_has_no_process(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text(TABLE)
    (tmp_path / "7").mkdir()

    found = describe(in_tables(tmp_path), NOBODY, tmp_path)

    assert [(each.port, each.pid, each.command) for each in found] == [
        (3000, None, None),
        (8080, None, None),
    ]
