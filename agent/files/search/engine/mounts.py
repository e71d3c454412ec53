"""Knows the file systems whose files may have no end, or never begin.

A file like `/proc/kmsg` or `trace_pipe` is regular by its type, and whoever reads it waits
for ever (man 5 proc); ripgrep would, to the end of the search's time. Python's own engine
opens files so that they never wait.
"""

import os

LIST = "/proc/self/mountinfo"
"""One mount a line: its place is the fifth word, its type the first behind a lone dash."""
KINDS = frozenset({b"proc", b"tracefs", b"debugfs"})


def may_wait(root: bytes, mounts: bytes) -> bool:
    """Tell whether files that wait for ever may be at or below a place.

    Args:
        root: An absolute path without links.
        mounts: The text of `LIST`.
    """
    root = root.rstrip(b"/") + b"/"
    inmost = (b"", b"")
    for line in mounts.splitlines():
        left, _, right = line.partition(b" - ")
        words = left.split(b" ")
        if len(words) <= 4:
            continue
        place = _unescaped(words[4]).rstrip(b"/") + b"/"
        kind = right.partition(b" ")[0]
        if kind in KINDS and place.startswith(root):
            return True
        # Of several mounts at one place the last one is what is seen.
        if root.startswith(place) and len(place) >= len(inmost[0]):
            inmost = (place, kind)
    return inmost[1] in KINDS


def mounted() -> bytes:
    """Return the list of mounts; nothing where there is none."""
    try:
        fd = os.open(LIST, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        pieces = []
        while piece := os.read(fd, 1 << 16):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(fd)


def _unescaped(word: bytes) -> bytes:
    r"""Return a path of the list: blanks and backslashes are as `\040` there."""
    first, *rest = word.split(b"\\")
    return first + b"".join([bytes([int(each[:3], 8)]) + each[3:] for each in rest])
