"""Stands in for the api: hands its line to the test, and waits to be told to end.

The test is then the api itself, in its own event loop, while the keeper still has a real
process to watch, to restart and to kill. Standard library only, for a quick start.
"""

import os
import socket
import sys

LINE = 3


def main() -> int:
    """Hand the line over; end with the code that comes back, or 0 when the test left."""
    test = socket.socket(socket.AF_UNIX)
    test.connect(sys.argv[1].replace("@", "\0"))
    socket.send_fds(test, [str(os.getpid()).encode()], [LINE])
    # From here on the line is closed when the test closes it.
    os.close(LINE)
    told = test.recv(16)
    return int(told or b"0")


if __name__ == "__main__":
    sys.exit(main())
