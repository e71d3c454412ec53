"""Who listens, as the kernel says when somebody asks.

It is asked for what listens; where that is not allowed, its tables of all sockets are read
(man 5 proc, /proc/net/tcp). A connection to find out would be seen by the server, and
would miss one that is busy.
"""

import contextlib
import os
import re
import socket
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

from agent import wire
from agent.ports.models import ListeningSocket
from agent.ports.sock_diag import Listening, ask

PROC = Path("/proc")

LISTENING = re.compile(
    # Number, local address, remote address, state 0A, queues, timer, retransmits, uid,
    # timeout, inode.
    rb"^ *\d+: ([0-9A-F]+):([0-9A-F]{4}) \S+ 0A \S+ \S+ \S+ +\d+ +\d+ (\d+) ",
    re.MULTILINE,
)
SOCKET = re.compile(r"socket:\[(\d+)\]")
COMMAND_MAX_CHARACTERS = 4096


def listening(ask_kernel: Callable[[], list[Listening]] = ask) -> list[Listening]:
    """Return every TCP socket of the sandbox that waits for connections."""
    try:
        return ask_kernel()
    except OSError:
        return in_tables()


def in_tables(proc: Path = PROC) -> list[Listening]:
    """Return the same, from the tables."""
    found = []
    for name in ("tcp", "tcp6"):
        # Where there is no IPv6 there is no table of it.
        with contextlib.suppress(FileNotFoundError):
            table = (proc / "net" / name).read_bytes()
            found += [
                Listening(int(port, 16), address_of(address), int(inode))
                for address, port, inode in LISTENING.findall(table)
            ]
    return found


def ports_of(sockets: Iterable[Listening], own: frozenset[int]) -> list[int]:
    """Return the ports, ascending, without those of the `own` inodes."""
    return sorted({each.port for each in sockets if each.inode not in own})


def inodes_of(sockets: Iterable[socket.socket]) -> frozenset[int]:
    """Return by what the kernel's tables know our own sockets."""
    return frozenset(os.fstat(each.fileno()).st_ino for each in sockets)


def describe(
    sockets: Iterable[Listening], own: frozenset[int], proc: Path = PROC
) -> list[ListeningSocket]:
    """Return the sockets with the processes that have them, by port."""
    wanted = {each.inode: each for each in sockets if each.inode not in own}
    owners = _owners(set(wanted), proc)
    return [
        ListeningSocket(
            port=each.port,
            address=each.address,
            pid=owners.get(each.inode),
            command=_command(proc, owners.get(each.inode)),
        )
        for each in sorted(wanted.values())
    ]


def address_of(table_form: bytes) -> str:
    """Return an address as people write it."""
    words = [
        int(table_form[start : start + 8], 16) for start in range(0, len(table_form), 8)
    ]
    # Each word is printed as a number of this machine's byte order.
    packed = struct.pack(f"={len(words)}I", *words)
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return socket.inet_ntop(family, packed)


def _owners(inodes: set[int], proc: Path) -> dict[int, int]:
    """Return the oldest process, by its number, that has each socket."""
    owners: dict[int, int] = {}
    pids = (int(each.name) for each in proc.iterdir() if each.name.isdigit())
    for pid in sorted(pids, reverse=True):
        for inode in _socket_inodes(proc / str(pid) / "fd"):
            if inode in inodes:
                owners[inode] = pid
    return owners


def _socket_inodes(descriptors: Path) -> Iterable[int]:
    # Other users' are closed to us, and a process may end at any moment.
    with contextlib.suppress(OSError), os.scandir(descriptors) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                found = SOCKET.fullmatch(os.readlink(entry.path))  # noqa: PTH115 - a path object for each costs more than the call
                if found is not None:
                    yield int(found[1])


def _command(proc: Path, pid: int | None) -> str | None:
    if pid is None:
        return None
    try:
        words = (proc / str(pid) / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return None
    text = b" ".join(words).decode("utf-8", "replace")
    return wire.printable(text)[:COMMAND_MAX_CHARACTERS]
