"""Stores each request's body in one file: recv_into a mebibyte, write, and again.

python -I receive_file.py PORT PATH
"""

import re
import socket
import sys

BUFFER_BYTES = 1024 * 1024
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def receive(connection: socket.socket, path: str, buffer: bytearray) -> None:
    """Take one request."""
    request = b""
    while b"\r\n\r\n" not in request:
        piece = connection.recv(65536)
        if not piece:
            return
        request += piece
    head, _, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    assert length
    left = int(length[1]) - len(body)
    view = memoryview(buffer)
    # Unbuffered, because the buffer is already as large as is good.
    with open(path, "wb", buffering=0) as file:  # noqa: PTH123 - as little as possible
        file.write(body)
        while left:
            count = connection.recv_into(buffer)
            if not count:
                return
            file.write(view[:count])
            left -= count
    connection.sendall(ANSWER)


def main() -> None:
    """Serve until killed."""
    buffer = bytearray(BUFFER_BYTES)
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                receive(connection, sys.argv[2], buffer)


if __name__ == "__main__":
    main()
