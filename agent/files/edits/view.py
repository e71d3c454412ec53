"""The files of one request as its edits leave them, in memory.

Every edit sees what those before it made, and nothing on the disk changes; what stands at
the end, beside what was read, is what `journal` makes true. Runs in a worker thread.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import msgspec

from agent.errors import (
    ConflictError,
    InvalidPathError,
    InvalidRequestError,
    TooLargeError,
)
from agent.files.content import open_content
from agent.files.edits.models import (
    DeleteEdit,
    DiffEdit,
    Edit,
    InsertEdit,
    MoveEdit,
    ReplaceEdit,
    WriteEdit,
)
from agent.files.edits.patches import apply_diff, lines_of
from agent.files.hashes import sha256_of
from agent.files.paths import Paths, told_as
from agent.files.writing import follow

FILE_MAX_BYTES = 8 * 1024 * 1024
"""One file, before or after: searching it in one go holds the interpreter for 8 ms."""
TOTAL_MAX_BYTES = 64 * 1024 * 1024
"""All files of one request, before and after: what the agent's memory can grow by."""

_NO_ATTRIBUTE = "security."
_MOMENT = r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)"


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a file is beside its content."""

    mode: int
    uid: int
    gid: int
    attributes: dict[str, bytes]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it was read."""

    content: bytes
    kept: Kept
    identity: tuple[int, ...]
    modified_ns: int


class Seen(msgspec.Struct, kw_only=True):
    """One file of the request.

    Attributes:
        given: The path as the client gave it first.
        path: The path that no link leads away from.
        found: What was on the disk; None: nothing.
        content: What it holds after the edits so far; None: it is not there.
        kept: What it will be beside its content; None: what a new file is.
    """

    given: str
    path: str
    found: Found | None
    content: bytes | None
    kept: Kept | None

    @property
    def before(self) -> bytes | None:
        """What it held on the disk."""
        return self.found.content if self.found else None

    @property
    def differs(self) -> bool:
        """Whether the edits changed it."""
        return self.content != self.before


class View:
    """The files that the edits of one request name.

    Args:
        paths: How paths resolve.
    """

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._files: dict[str, Seen] = {}
        self._total_bytes = 0

    def changed(self) -> list[Seen]:
        """Return the files that differ from the disk, in the order they were named."""
        return [each for each in self._files.values() if each.differs]

    def apply(self, edit: Edit) -> None:
        """Make one edit.

        Raises:
            ConflictError: The file is not what the edit counts on.
            InvalidRequestError: The edit makes no sense.
            TooLargeError: A file, or all of them, are past the limits.
            OSError: A file is missing, or the system refuses.
        """
        itself = isinstance(edit, DeleteEdit | MoveEdit)
        seen = self._see(edit.path, itself=itself)
        _check_expected(seen, edit)
        if isinstance(edit, MoveEdit):
            self._move(seen, edit)
            return
        with _naming(edit.path):
            content = _edited(seen, edit)
        self._put(seen, content)

    def _move(self, seen: Seen, edit: MoveEdit) -> None:
        content = _required(seen, edit.path)
        target = self._see(edit.destination, itself=True)
        if target.content is not None:
            raise ConflictError(f"{edit.destination}: destination already exists")
        target.kept = seen.kept
        self._put(seen, None)
        self._put(target, content)

    def _put(self, seen: Seen, content: bytes | None) -> None:
        self._count(len(content or b"") - len(seen.content or b""), seen.given)
        if content is not None and len(content) > FILE_MAX_BYTES:
            raise TooLargeError(f"{seen.given}: larger than {FILE_MAX_BYTES} bytes")
        seen.content = content

    def _count(self, more_bytes: int, given: str) -> None:
        self._total_bytes += more_bytes
        if self._total_bytes > TOTAL_MAX_BYTES:
            raise TooLargeError(
                f"{given}: all files of the edits together are larger than"
                f" {TOTAL_MAX_BYTES} bytes"
            )

    def _see(self, given: str, *, itself: bool) -> Seen:
        """Return the file that `given` leads to; a link only if it is not meant itself."""
        with told_as(given):
            path, status = follow(self._paths.resolve(given))
            parent, name = os.path.split(path)
            if name in {"", ".", ".."}:
                raise InvalidPathError(f"invalid file path: is a directory: {given}")
            path = os.path.join(os.path.realpath(parent), name)
            if path in self._files:
                return self._files[path]
            if itself and os.path.islink(self._paths.resolve(given)):
                raise InvalidPathError(
                    f"invalid file path: links are neither moved nor deleted: {given}"
                )
            found = None if status is None else look_at(path, given)
        seen = Seen(
            given=given,
            path=path,
            found=found,
            content=found.content if found else None,
            kept=found.kept if found else None,
        )
        self._count(2 * len(seen.content or b""), given)
        self._files[path] = seen
        return seen


def look_at(path: str, given: str) -> Found:
    """Read the regular file `path`; errors name it as `given`.

    Raises:
        ConflictError: It changed while it was read.
        InvalidPathError: It is no regular file.
        TooLargeError: It is past the limit.
        OSError: It is missing, or may not be read or written.
    """
    content = open_content(path, given)
    try:
        before = os.fstat(content.fd)
        text = content.read(0, FILE_MAX_BYTES + 1)
        kept = _kept(content.fd, before)
        after = os.fstat(content.fd)
    finally:
        content.close()
    if len(text) > FILE_MAX_BYTES:
        raise TooLargeError(f"{given}: larger than {FILE_MAX_BYTES} bytes")
    if identity_of(before) != identity_of(after):
        raise ConflictError(f"{given}: changed while it was read")
    with told_as(given):
        if not os.access(path, os.W_OK, effective_ids=True):
            # A rename would not ask, but a file that is read-only is meant so.
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), given)
    return Found(
        content=text,
        kept=kept,
        identity=identity_of(after),
        modified_ns=after.st_mtime_ns,
    )


def identity_of(status: os.stat_result) -> tuple[int, ...]:
    """Return what is different once a file was written to or replaced."""
    return (
        *(status.st_dev, status.st_ino, status.st_size),
        *(status.st_mtime_ns, status.st_ctime_ns),
    )


def _kept(fd: int, status: os.stat_result) -> Kept:
    attributes: dict[str, bytes] = {}
    try:
        for name in os.listxattr(fd):
            # Those of the system's security are its own business (`writing`).
            if not name.startswith(_NO_ATTRIBUTE):
                attributes[name] = os.getxattr(fd, name)
    except OSError:
        # This file system has none, or one went away meanwhile.
        attributes = attributes or {}
    return Kept(
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        attributes=attributes,
    )


def _check_expected(seen: Seen, edit: Edit) -> None:
    if edit.sha256 is not None:
        if seen.found is None:
            raise ConflictError(f"{edit.path}: the file is not there")
        if sha256_of(seen.found.content) != edit.sha256:
            raise ConflictError(f"{edit.path}: the content has another sha256")
    if edit.modified_at is not None:
        wanted_ns = _nanoseconds(edit.modified_at)
        if seen.found is None:
            raise ConflictError(f"{edit.path}: the file is not there")
        if seen.found.modified_ns != wanted_ns:
            raise ConflictError(f"{edit.path}: the file was modified since")


def _nanoseconds(moment: str) -> int:
    match = re.fullmatch(_MOMENT, moment, re.ASCII)
    day, fraction, zone = match.groups() if match else ("", "", "")
    try:
        second = datetime.fromisoformat(day + zone).timestamp()
    except (ValueError, OverflowError) as error:
        raise InvalidRequestError(
            f"modifiedAt is no RFC 3339 time: {moment}"
        ) from error
    return int(second) * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))


def _required(seen: Seen, given: str) -> bytes:
    if seen.content is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), given)
    return seen.content


def _edited(seen: Seen, edit: Edit) -> bytes | None:
    """Return what an edit other than a move makes of a file."""
    match edit:
        case WriteEdit():
            return encoded(edit.content)
        case DiffEdit():
            return apply_diff(seen.content, encoded(edit.diff))
        case ReplaceEdit():
            return _replaced(_required(seen, edit.path), edit)
        case InsertEdit():
            return _inserted(_required(seen, edit.path), edit)
        case _:
            _required(seen, edit.path)
            return None


def _replaced(content: bytes, edit: ReplaceEdit) -> bytes:
    old, new = encoded(edit.old), encoded(edit.new)
    count = content.count(old)
    if count != edit.count:
        raise ConflictError(f"the text is there {count} times, not {edit.count}")
    if len(content) + count * (len(new) - len(old)) > FILE_MAX_BYTES:
        raise TooLargeError(f"larger than {FILE_MAX_BYTES} bytes")
    return content.replace(old, new)


def _inserted(content: bytes, edit: InsertEdit) -> bytes:
    lines = lines_of(content)
    if edit.line > len(lines) + 1:
        raise ConflictError(f"there is no line {edit.line}: the file has {len(lines)}")
    before, after = lines[: edit.line - 1], lines[edit.line - 1 :]
    text = encoded(edit.text)
    if before and not before[-1].endswith(b"\n"):
        text = b"\n" + text
    if after and not text.endswith(b"\n"):
        text += b"\n"
    return b"".join([*before, text, *after])


def encoded(text: str) -> bytes:
    """Return the bytes of a text from a client."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError("the text holds half a surrogate pair") from error


@contextmanager
def _naming(given: str) -> Iterator[None]:
    """Let a conflict raised inside begin with the file's name."""
    try:
        yield
    except (ConflictError, InvalidRequestError, TooLargeError) as error:
        raise type(error)(f"{given}: {error.message}") from error
