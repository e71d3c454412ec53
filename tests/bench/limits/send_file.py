"""Sends one file to whoever connects: accept, read the request, sendfile, close.

python -I send_file.py PORT PATH
"""

import os
import socket
import sys


def send(connection: socket.socket, path: str) -> None:
    """Answer one request."""
    request = b""
    while b"\r\n\r\n" not in request:
        piece = connection.recv(65536)
        if not piece:
            return
        request += piece
    with open(path, "rb") as file:  # noqa: PTH123 - nothing is imported that it needs not
        left = os.fstat(file.fileno()).st_size
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {left}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        offset = 0
        while left:
            sent = os.sendfile(connection.fileno(), file.fileno(), offset, left)
            offset += sent
            left -= sent


def main() -> None:
    """Serve until killed."""
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                send(connection, sys.argv[2])


if __name__ == "__main__":
    main()
