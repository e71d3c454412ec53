"""Describes an entry the way the wire wants it (contract 10 §0).

The strings are cached, because a directory of a hundred thousand entries has few
different modes and owners, and often few different seconds.
"""

import os
import stat
import time
from functools import lru_cache

from agent.files.models import FileInfo
from agent.wire import UNSET, UnsetType, printable

NANOSECONDS = 1_000_000_000
FIRST_SECOND = -62_135_510_400
"""2 January of the year 1: what RFC 3339 can say in every zone."""
LAST_SECOND = 253_402_214_400
"""31 December 9999, for the same reason."""

_KINDS = {
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "L",
    stat.S_IFBLK: "D",
    stat.S_IFCHR: "D",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "S",
}


def describe(
    name: str, path: str | UnsetType, found: os.stat_result, *, is_dir: bool
) -> FileInfo:
    """Return the entry `name`, whose status is `found`."""
    mode, permissions = mode_strings(found.st_mode)
    mod_time, modified_at = time_strings(found.st_mtime_ns)
    return FileInfo(
        name=printable(name),
        path=UNSET if path is UNSET else printable(path),
        size=found.st_size,
        mode=mode,
        permissions=permissions,
        mod_time=mod_time,
        modified_at=modified_at,
        is_dir=is_dir,
        owner=id_string(found.st_uid),
        group=id_string(found.st_gid),
    )


@lru_cache(maxsize=512)
def mode_strings(mode: int) -> tuple[str, str]:
    """Return `mode` as letters and as four octal digits of the low nine bits."""
    letters = _KINDS.get(stat.S_IFMT(mode), "")
    letters += "u" if mode & stat.S_ISUID else ""
    letters += "g" if mode & stat.S_ISGID else ""
    letters += "c" if stat.S_ISCHR(mode) else ""
    letters += "t" if mode & stat.S_ISVTX else ""
    bits = "".join(
        letter if mode & (0o400 >> place) else "-"
        for place, letter in enumerate("rwxrwxrwx")
    )
    return (letters or "-") + bits, f"{mode & 0o777:04o}"


@lru_cache(maxsize=512)
def id_string(number: int) -> str:
    """Return a user's or group's number as text: names would need look-ups."""
    return str(number)


@lru_cache(maxsize=1024)
def time_strings(time_ns: int) -> tuple[str, str]:
    """Return a time in the older form with the zone's name, and in RFC 3339."""
    second, nanosecond = divmod(time_ns, NANOSECONDS)
    day, clock, offset, zone, rfc_offset = _second_strings(
        min(max(second, FIRST_SECOND), LAST_SECOND)
    )
    fraction = f".{nanosecond:09d}".rstrip("0") if nanosecond else ""
    return (
        f"{day} {clock}{fraction} {offset} {zone}",
        f"{day}T{clock}{fraction}{rfc_offset}",
    )


@lru_cache(maxsize=1024)
def _second_strings(second: int) -> tuple[str, str, str, str, str]:
    local = time.localtime(second)
    # The C library does not pad years before 1000.
    day = f"{local.tm_year:04d}-{local.tm_mon:02d}-{local.tm_mday:02d}"
    clock = f"{local.tm_hour:02d}:{local.tm_min:02d}:{local.tm_sec:02d}"
    minutes = abs(local.tm_gmtoff) // 60
    sign = "-" if local.tm_gmtoff < 0 else "+"
    hours, rest = divmod(minutes, 60)
    rfc_offset = f"{sign}{hours:02d}:{rest:02d}" if local.tm_gmtoff else "Z"
    return day, clock, f"{sign}{hours:02d}{rest:02d}", local.tm_zone, rfc_offset
