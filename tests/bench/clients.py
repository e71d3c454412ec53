"""HTTP clients that are lighter than any server: plain sockets and prepared bytes.

What they read they throw away, so they work for large answers too.
"""

import re
import select
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

BUFFER_BYTES = 1024 * 1024
ANSWER_LIMIT_S = 60.0
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding: *chunked")

_OK = re.compile(rb"HTTP/1\.[01] 2")
_EMPTY = re.compile(rb"HTTP/1\.[01] 204")


class WrongAnswerError(Exception):
    """The answer is not one of success, so its time says nothing."""


def request(
    port: int,
    method: str,
    target: str,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    *,
    length: int | None = None,
) -> bytes:
    """Return the bytes of a request; `length` when the body is sent apart."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body or length is not None:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection:
    """One connection that is kept for many small requests."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(
            ("127.0.0.1", port), timeout=ANSWER_LIMIT_S
        )
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, sent: bytes) -> bytes:
        """Send a request and return the whole answer, which must be a good one."""
        self._socket.sendall(sent)
        answer = b""
        while not is_whole(answer):
            piece = self._socket.recv(65536)
            if not piece:
                raise ConnectionError(f"the answer broke off: {answer[:200]!r}")
            answer += piece
        return answer


def is_whole(answer: bytes) -> bool:
    """Tell whether a small answer has come in whole.

    Raises:
        WrongAnswerError: It is not one of success.
    """
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    if not _OK.match(answer):
        raise WrongAnswerError(repr(answer[:500]))
    if _EMPTY.match(answer):
        return True
    length = _LENGTH.search(head)
    return len(body) == int(length[1]) if length else body.endswith(b"0\r\n\r\n")


def fetch(port: int, sent: bytes) -> int:
    """Send a request that closes its connection; return the size of the answer's body."""
    with socket.create_connection(
        ("127.0.0.1", port), timeout=ANSWER_LIMIT_S
    ) as connection:
        connection.sendall(sent)
        return _drain(connection)


def send_file(
    port: int, head: bytes, path: Path, *, before: bytes = b"", after: bytes = b""
) -> None:
    """Send a request whose body is a file, with `before` and `after` around it."""
    with (
        socket.create_connection(
            ("127.0.0.1", port), timeout=ANSWER_LIMIT_S
        ) as connection,
        path.open("rb") as file,
    ):
        connection.sendall(head + before)
        # In the kernel, so that the client takes little of what is to be measured.
        connection.sendfile(file)
        connection.sendall(after)
        _drain(connection)


def _drain(connection: socket.socket) -> int:
    """Read an answer to the end of its connection; return the size of its body.

    Raises:
        WrongAnswerError: It is not one of success.
        ConnectionError: It is not whole.
    """
    buffer = bytearray(BUFFER_BYTES)
    first = b""
    while b"\r\n\r\n" not in first and (piece := connection.recv(65536)):
        first += piece
    if not _OK.match(first):
        raise WrongAnswerError(repr(first[:500]))
    head, _, body = first.partition(b"\r\n\r\n")
    size = len(body)
    last = body[-5:]
    while count := connection.recv_into(buffer):
        size += count
        last = (last + bytes(buffer[max(0, count - 5) : count]))[-5:]
    length = _LENGTH.search(head)
    if length and size != int(length[1]):
        raise ConnectionError(f"{size} bytes came of {int(length[1])}")
    if _CHUNKED.search(head) and last != b"0\r\n\r\n":
        raise ConnectionError("the answer broke off")
    return size


def throughput(port: int, sent: bytes, connections: int, duration_s: float) -> float:
    """Ask the same on many connections at once; return the answers a second."""
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    answers: dict[int, bytes] = {}
    for _ in range(connections):
        connection = socket.create_connection(
            ("127.0.0.1", port), timeout=ANSWER_LIMIT_S
        )
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets[connection.fileno()] = connection
        poll.register(connection, select.EPOLLIN)
        connection.sendall(sent)
    answers = dict.fromkeys(sockets, b"")
    started = time.perf_counter()
    done = 0
    while time.perf_counter() - started < duration_s:
        for number, _ in poll.poll(ANSWER_LIMIT_S):
            answers[number] += sockets[number].recv(65536)
            if is_whole(answers[number]):
                answers[number] = b""
                done += 1
                sockets[number].sendall(sent)
    took_s = time.perf_counter() - started
    # What is still asked for is waited for: nothing is left running for the next case.
    for number, connection in sockets.items():
        while not is_whole(answers[number]):
            answers[number] += connection.recv(65536)
        connection.close()
    poll.close()
    return done / took_s


def streams(port: int, sent: bytes, count: int) -> float:
    """Take `count` answers at once, to the end of each; return their bytes a second."""
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    for _ in range(count):
        connection = socket.create_connection(
            ("127.0.0.1", port), timeout=ANSWER_LIMIT_S
        )
        sockets[connection.fileno()] = connection
        poll.register(connection, select.EPOLLIN)
    started = time.perf_counter()
    for connection in sockets.values():
        connection.sendall(sent)
    lasts = dict.fromkeys(sockets, b"")
    size = 0
    while sockets:
        for number, _ in poll.poll(ANSWER_LIMIT_S):
            piece = sockets[number].recv(65536)
            if not piece:
                raise ConnectionError("an answer broke off")
            size += len(piece)
            lasts[number] = (lasts[number] + piece)[-5:]
            if lasts[number] == b"0\r\n\r\n":
                poll.unregister(number)
                sockets.pop(number).close()
    poll.close()
    return size / (time.perf_counter() - started)


def wrk(
    port: int,
    target: str,
    headers: Mapping[str, str],
    *,
    connections: int = 16,
    duration_s: int = 1,
    cpu: int | None = None,
) -> float:
    """Return the requests a second that wrk counts."""
    words = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{duration_s}s"]
    for name, value in headers.items():
        words += ["-H", f"{name}: {value}"]
    if cpu is not None:
        words = ["taskset", "-c", str(cpu), *words]
    url = f"http://127.0.0.1:{port}{target}"
    text = subprocess.run(
        [*words, url], check=True, capture_output=True, text=True
    ).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise WrongAnswerError(text)
    found = re.search(r"Requests/sec: *([\d.]+)", text)
    assert found, text
    return float(found[1])
