"""Git's credential helper for one call: hands git's question to the agent (man 7 gitcredentials).

    ask.py NAME get

`NAME` is that of an abstract socket. The agent answers only what it has itself started,
and only for the host that the credentials were given for, so the name is no secret.
Standard library only, and as little of that as possible.
"""

import socket
import sys

QUESTION_MAX_BYTES = 65536


def main() -> None:
    """Ask, and print the answer; anything but `get` is none of our business."""
    if len(sys.argv) != 3 or sys.argv[2] != "get":
        return
    question = sys.stdin.buffer.read(QUESTION_MAX_BYTES)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(10)
        line.connect(b"\0" + sys.argv[1].encode())
        line.sendall(question)
        line.shutdown(socket.SHUT_WR)
        while piece := line.recv(65536):
            sys.stdout.buffer.write(piece)


if __name__ == "__main__":
    main()
