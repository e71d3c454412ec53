"""Plans the answers that carry files: one file, ranges of it, or many as parts.

A plan says which bytes come in which order; `sending` puts them on the wire.
"""

from collections.abc import Iterator, Mapping

import msgspec

from agent.files.content import Content
from agent.files.names import disposition
from agent.files.paths import base_name
from agent.files.ranges import Span, Version, boundary, spans

INLINE_BYTES = 256 * 1024
"""Files up to this size are read at once; handing more to a thread pays for itself."""

_FIXED_HEADERS = {
    "Content-Description": "File Transfer",
    "Content-Transfer-Encoding": "binary",
    "Cache-Control": "must-revalidate",
    "Pragma": "public",
    "Expires": "0",
    "X-Content-Type-Options": "nosniff",
}

_KEPT_BY_304 = ("ETag", "Last-Modified", "Cache-Control", "Expires", "Pragma")


class Plan(msgspec.Struct):
    """An answer to be sent.

    Attributes:
        status: Its status.
        headers: Its headers.
        pieces: Its body: bytes that are there, and spans of the file.
        size_bytes: The size of the body; None when only the end of the file tells.
    """

    status: int
    headers: dict[str, str]
    pieces: list[bytes | Span] = msgspec.field(default_factory=list)
    size_bytes: int | None = 0


def plan_download(
    content: Content, path: str, headers: Mapping[str, str], data: bytes | None = None
) -> Plan:
    """Return the answer to a download of `content`, which the client calls `path`.

    `data` is all of the content, when that was read already; else this reads it, if it
    is short.

    Raises:
        PreconditionError: The client wants another version.
        RangeError: The range asked for lies outside the file.
    """
    version = Version(content)
    answer = {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": disposition("attachment", base_name(path)),
        "Last-Modified": version.last_modified,
        **_FIXED_HEADERS,
    }
    size = content.size_bytes
    if data is None and size <= INLINE_BYTES:
        data = content.read(0, size or INLINE_BYTES + 1)
        if len(data) > INLINE_BYTES:
            return Plan(200, answer, [data], None)
    if data is not None:
        # Some virtual files claim a size that they do not have: what was read counts.
        size = len(data)
    answer |= {"ETag": version.tag, "Accept-Ranges": "bytes"}
    if version.is_fresh(headers):
        return Plan(304, {k: answer[k] for k in _KEPT_BY_304})
    asked = headers.get("Range") if size and version.allows_range(headers) else None
    wanted = spans(asked, size)
    if wanted is None:
        return Plan(200, answer, [Span(0, size) if data is None else data], size)
    if len(wanted) > 1:
        pieces = list(_range_parts(wanted, size, answer))
    else:
        answer["Content-Range"] = wanted[0].header(size)
        pieces = list(wanted)
    if data is not None:
        pieces = [_cut(piece, data) for piece in pieces]
    return Plan(206, answer, pieces, sum(map(_size, pieces)))


def _range_parts(
    wanted: list[Span], size_bytes: int, headers: dict[str, str]
) -> Iterator[bytes | Span]:
    """Yield the parts of a multipart/byteranges body; sets the answer's type."""
    mark = boundary()
    kind = headers["Content-Type"]
    headers["Content-Type"] = f"multipart/byteranges; boundary={mark}"
    separator = ""
    for span in wanted:
        yield (
            f"{separator}--{mark}\r\nContent-Type: {kind}\r\n"
            f"Content-Range: {span.header(size_bytes)}\r\n\r\n"
        ).encode()
        yield span
        separator = "\r\n"
    yield f"\r\n--{mark}--\r\n".encode()


def _cut(piece: bytes | Span, data: bytes) -> bytes:
    if isinstance(piece, Span):
        return data[piece.start : piece.start + piece.size_bytes]
    return piece


def _size(piece: bytes | Span) -> int:
    return piece.size_bytes if isinstance(piece, Span) else len(piece)
