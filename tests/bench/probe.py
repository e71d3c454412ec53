"""Asks one small question again and again, and tells how late the answers came.

python -I probe.py PORT INTERVAL_MS

A program of its own, so that what loads the agent does not also delay the watch. Ends
when its standard input does, and then prints the times, in milliseconds, as JSON. Times
count from when a question was really sent: the next one waits for the answer.
"""

import json
import select
import socket
import sys
import time


def watch(port: int, interval_s: float) -> list[float]:
    """Ask until told to stop; return how long each answer took, in milliseconds."""
    question = f"GET /version HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    stop = select.poll()
    stop.register(sys.stdin, select.POLLIN | select.POLLHUP)
    took_ms: list[float] = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        due = time.perf_counter()
        while not stop.poll(0):
            due = max(due + interval_s, time.perf_counter())
            time.sleep(max(0.0, due - time.perf_counter()))
            started = time.perf_counter()
            connection.sendall(question)
            answer = connection.recv(65536)
            took_ms.append((time.perf_counter() - started) * 1000)
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise ConnectionError(repr(answer[:200]))
    return took_ms


if __name__ == "__main__":
    json.dump(watch(int(sys.argv[1]), float(sys.argv[2]) / 1000), sys.stdout)
