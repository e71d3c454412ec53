"""Finds out that the system may have dropped events (man 7 inotify, IN_Q_OVERFLOW).

The system keeps a bounded queue for each watcher, and puts a word into it when something
did not fit; watchfiles takes that word and does not hand it on. So the queue is looked at
from beside: whenever something is in it, its size in bytes is asked for, every few
milliseconds, which is several times before watchfiles could have emptied a full one. One
that is so large that it may have been full counts as overflowed. That is the number of
places in it times the smallest event; with names of ordinary length, half of it.
"""

import array
import fcntl
import os
import select
import termios
import threading
import time

MAX_EVENTS = "/proc/sys/fs/inotify/max_queued_events"
EVENT_MIN_BYTES = 16
"""Without a name; one with a name has 32 bytes and more."""
LOOK_S = 0.004
"""Between two looks while there is something: a full queue takes 16 ms and more."""
DESCRIPTOR = "anon_inode:inotify"


class KernelQueue:
    """Looks at the queue of one watcher, in a thread, until it is closed.

    Args:
        fd: The watcher's descriptor; it is not kept.
    """

    def __init__(self, fd: int) -> None:
        self._limit_bytes = _places() * EVENT_MIN_BYTES
        self._overflowed = threading.Event()
        # Of our own: the number may be something else's once the watcher is closed.
        self._fd = os.dup(fd)
        self._ended, self._end = os.pipe()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def has_overflowed(self) -> bool:
        """Tell whether something may have been dropped."""
        return self._overflowed.is_set()

    def close(self) -> None:
        """Look no more."""
        os.close(self._end)
        self._thread.join()
        os.close(self._ended)
        os.close(self._fd)

    def _look(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._ended, 0)
        while all(fd == self._fd for fd, _ in poll.poll()):
            if _waiting_bytes(self._fd) >= self._limit_bytes:
                self._overflowed.set()
            time.sleep(LOOK_S)


def queues() -> set[int]:
    """Return the descriptors of this process that such a queue belongs to."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == DESCRIPTOR:
                found.add(int(name))
        except FileNotFoundError:
            # The one that the directory was read by.
            continue
    return found


def _waiting_bytes(fd: int) -> int:
    answer = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, answer)
    return answer[0]


def _places() -> int:
    with open(MAX_EVENTS, encoding="ascii") as file:
        return int(file.read())
