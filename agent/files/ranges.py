"""Decides which bytes of a file a conditional or partial request gets (RFC 9110 §13-14)."""

import os
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import lru_cache

import msgspec

from agent.errors import PreconditionError, RangeError
from agent.files.attributes import FIRST_SECOND, LAST_SECOND
from agent.files.content import Content

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)

_RANGE = r"(\d{0,19})\s*-\s*(\d{0,19})"

MAX_RANGES = 256
"""Ranges one request may ask for; each costs a part of its own."""


class Span(msgspec.Struct, frozen=True):
    """Bytes of a file, from `start` on."""

    start: int
    size_bytes: int

    def header(self, whole: int) -> str:
        """Return the Content-Range value; `whole` is the size of the file."""
        return f"bytes {self.start}-{self.start + self.size_bytes - 1}/{whole}"


class Version:
    """What tells one state of a file from another.

    The strong tag changes with content (by time and size) and with replacement (by
    inode), as far as the file system's clock can tell.
    """

    def __init__(self, content: Content) -> None:
        self.tag = f'"{content.inode:x}-{content.mtime_ns:x}-{content.size_bytes:x}"'
        self.modified_s = content.mtime_ns // 1_000_000_000

    @property
    def last_modified(self) -> str:
        """The time of the last change as HTTP writes it."""
        return http_date(self.modified_s)

    def is_fresh(self, headers: Mapping[str, str]) -> bool:
        """Tell whether the client's copy is this version, so that 304 will do.

        Raises:
            PreconditionError: The client wants another version or nothing.
        """
        if (wanted := headers.get("If-Match")) is not None:
            if not self._listed(wanted, weak=False):
                raise PreconditionError("the file is not the version asked for")
        elif (limit := _seconds(headers.get("If-Unmodified-Since"))) is not None and (
            self.modified_s > limit
        ):
            raise PreconditionError("the file was modified since")
        if (known := headers.get("If-None-Match")) is not None:
            return self._listed(known, weak=True)
        since = _seconds(headers.get("If-Modified-Since"))
        return since is not None and self.modified_s <= since

    def allows_range(self, headers: Mapping[str, str]) -> bool:
        """Tell whether If-Range, when it is there, still names this version."""
        condition = headers.get("If-Range")
        if condition is None:
            return True
        if condition.lstrip().startswith(('"', "W/")):
            return condition.strip() == self.tag
        return _seconds(condition) == self.modified_s

    def _listed(self, value: str, *, weak: bool) -> bool:
        if value.strip() == "*":
            return True
        found = re.findall(r'(W/)?("[^"]*")', value)
        return any(tag == self.tag and (weak or not mark) for mark, tag in found)


@lru_cache(maxsize=256)
def http_date(second: int) -> str:
    """Return a time in seconds as HTTP writes it."""
    # A year that HTTP cannot write is as good as the nearest that it can.
    moment = time.gmtime(min(max(second, FIRST_SECOND), LAST_SECOND))
    # Not strftime, which would write the names in the language of the locale.
    return (
        f"{_DAYS[moment.tm_wday]}, {moment.tm_mday:02d} {_MONTHS[moment.tm_mon - 1]} "
        f"{moment.tm_year:04d} {moment.tm_hour:02d}:{moment.tm_min:02d}:"
        f"{moment.tm_sec:02d} GMT"
    )


def _seconds(date: str | None) -> int | None:
    """Return an HTTP date in seconds; None when it is none, which then counts not."""
    if not date:
        return None
    try:
        return int(parsedate_to_datetime(date).timestamp())
    except (ValueError, OverflowError):
        return None


def spans(value: str | None, size_bytes: int) -> list[Span] | None:
    """Return what a Range header asks of a file; None means the whole file.

    Raises:
        RangeError: It is malformed, or all of it lies outside the file.
    """
    unit, _, ranges = (value or "").partition("=")
    if unit.strip().lower() != "bytes":
        # Another unit, which the standard says to ignore.
        return None
    asked = [each.strip() for each in ranges.split(",") if each.strip()]
    if len(asked) > MAX_RANGES:
        return None
    matches = [re.fullmatch(_RANGE, each, re.ASCII) for each in asked]
    found = [
        span
        for match in matches
        if match and (span := _span(match[1], match[2], size_bytes))
    ]
    if not found or None in matches:
        raise RangeError(f"range lies outside the file: {value}", size_bytes=size_bytes)
    if sum(span.size_bytes for span in found) > size_bytes:
        # More than the whole, so the whole is the shorter answer.
        return None
    return found


def _span(first: str, last: str, size_bytes: int) -> Span | None:
    """Return the bytes of one range; None when it lies outside, or is backwards."""
    if not first:
        start = max(size_bytes - int(last or 0), 0)
        end = size_bytes
    else:
        start = int(first)
        end = min(int(last) + 1, size_bytes) if last else size_bytes
    return Span(start, end - start) if start < end else None


def boundary() -> str:
    """Return a boundary that no content can foresee."""
    return os.urandom(24).hex()
