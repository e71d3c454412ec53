"""Asks when a file was made (man 2 statx), which Python's own `stat` does not tell."""

import ctypes
import os
import struct
from collections.abc import Callable
from functools import lru_cache

_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_STATX_BTIME = 0x800
_SIZE_BYTES = 256
_MASK = struct.Struct("=I")
_BIRTH = struct.Struct("=qI")
_BIRTH_AT = 80


def birth_of(path: str) -> float | None:
    """Return when an entry, a link itself included, was made.

    In seconds of `CLOCK_REALTIME_COARSE`, the clock of the system's own stamps. None:
    the system or the file system does not know, or the entry is not there.
    """
    statx = _statx()
    if statx is None:
        return None
    answer = ctypes.create_string_buffer(_SIZE_BYTES)
    flags, wanted = _AT_SYMLINK_NOFOLLOW, _STATX_BTIME
    if statx(_AT_FDCWD, os.fsencode(path), flags, wanted, answer) != 0:
        return None
    (known,) = _MASK.unpack_from(answer)
    if not known & _STATX_BTIME:
        return None
    seconds, nanoseconds = _BIRTH.unpack_from(answer, _BIRTH_AT)
    return float(seconds + nanoseconds / 1e9)


@lru_cache(1)
def _statx() -> Callable[..., int] | None:
    # C libraries have had it since glibc 2.28 and musl 1.2.3.
    try:
        found = ctypes.CDLL(None).statx
    except (OSError, AttributeError):
        return None
    found.argtypes = [
        *(ctypes.c_int, ctypes.c_char_p, ctypes.c_int),
        *(ctypes.c_uint, ctypes.c_char_p),
    ]
    result: Callable[..., int] = found
    return result
