"""Writes file names into header lines (contract 10 §6)."""

import os
import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from agent.wire import printable

if TYPE_CHECKING:
    from mimetypes import MimeTypes

FALLBACK_TYPE = "application/octet-stream"

_UNESCAPED = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$&+-.^_`|~"
)
_PLAIN = {
    **dict.fromkeys((*range(1, 0x20), 0x7F), "_"),
    ord("\r"): None,
    ord("\n"): None,
    0: None,
    ord("\\"): "\\\\",
    ord('"'): '\\"',
}


_SIMPLE = r"[A-Za-z0-9!#$&+\-.^_`|~/]*"
"""Of such a name only the slashes are written in another way."""


@lru_cache(maxsize=256)
def disposition(kind: str, name: str) -> str:
    """Return a Content-Disposition value for the file `name`.

    `kind` is what comes before the names, `attachment` or `form-data; name="file"`. The
    value holds no character above U+00FF and no control character, whatever the name.
    """
    if re.fullmatch(_SIMPLE, name):
        # Nearly every name is like this, and a bulk download has thousands.
        escaped = name.replace("/", "%2F")
        return f"{kind}; filename=\"{name}\"; filename*=utf-8''{escaped}"
    name = printable(name)
    return f"{kind}; filename=\"{quoted(name)}\"; filename*=utf-8''{encoded(name)}"


def quoted(name: str) -> str:
    """Return `name` for a quoted string, in Latin-1 and with `_` for what it lacks."""
    name = name.translate(_PLAIN)
    if name.isascii():
        return name
    return "".join(letter if ord(letter) <= 0xFF else "_" for letter in name)


def encoded(name: str) -> str:
    """Return `name` percent-encoded for an extended parameter (RFC 8187)."""
    return "".join(
        chr(byte) if byte in _UNESCAPED else f"%{byte:02X}" for byte in name.encode()
    )


def content_type(name: str) -> str:
    """Return the media type that the extension of `name` says."""
    return _type_of(os.path.splitext(name)[1])


@lru_cache(maxsize=256)
def _type_of(extension: str) -> str:
    found, encoding = _types().guess_type(f"name{extension}", strict=True)
    return FALLBACK_TYPE if encoding or not found else found


@cache
def _types() -> "MimeTypes":
    # Imported here, because nothing needs it before the first download of this kind.
    # Only the library's own table: what the image's files say would differ by image.
    from mimetypes import MimeTypes  # noqa: PLC0415

    return MimeTypes(filenames=())
