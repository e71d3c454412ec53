"""Hashes content by OpenSSL's SHA-256, several times as fast as Python's own.

The agent starts without OpenSSL (`agent/lean.py`), so it is loaded by the first hash.
"""

import os
from typing import Protocol

from agent.errors import ConflictError, TooLargeError
from agent.files.content import READ_BYTES, Content

HASHED_MAX_BYTES = 64 * 1024 * 1024 * 1024
"""Of one file: under a minute of one core."""
STEP_BYTES = 64 * 1024 * 1024
"""Hashed by one trip to a thread."""


class Hash(Protocol):
    """A SHA-256 in the making."""

    def update(self, data: bytes, /) -> None:
        """Add content."""

    def hexdigest(self) -> str:
        """Return the hash of what was added so far."""


def new_hash() -> Hash:
    """Return a SHA-256 of nothing yet."""
    try:
        from _hashlib import openssl_sha256  # noqa: PLC0415
    except ImportError:
        import hashlib  # noqa: PLC0415

        return hashlib.sha256()
    return openssl_sha256()


def sha256_of(content: bytes) -> str:
    """Return the hash of `content` in lower-case hex digits."""
    made = new_hash()
    made.update(content)
    return made.hexdigest()


class Hashing:
    """The hash of an open file, made step by step in worker threads.

    Args:
        content: The file; whoever opened it closes it.
        given: Its path as the client gave it.

    Attributes:
        status: The file's status when this began.
    """

    def __init__(self, content: Content, given: str) -> None:
        self.status = os.fstat(content.fd)
        self._content = content
        self._given = given
        self._hash = new_hash()
        self._offset = 0
        if content.size_bytes > HASHED_MAX_BYTES:
            raise TooLargeError(f"{given}: larger than {HASHED_MAX_BYTES} bytes")

    @property
    def hexdigest(self) -> str:
        """The hash of what was read so far."""
        return self._hash.hexdigest()

    def step(self) -> bool:
        """Hash some more; return whether that was the end.

        Raises:
            ConflictError: The file changed since this began.
            OSError: It cannot be read.
        """
        end = self._offset + STEP_BYTES
        while self._offset < end:
            piece = self._content.read(self._offset, READ_BYTES)
            self._hash.update(piece)
            self._offset += len(piece)
            if len(piece) < READ_BYTES:
                self._check()
                return True
            if self._offset > HASHED_MAX_BYTES:
                raise TooLargeError(f"{self._given}: has no end")
        return False

    def _check(self) -> None:
        now = os.fstat(self._content.fd)
        was = self.status
        if (now.st_size, now.st_mtime_ns) != (was.st_size, was.st_mtime_ns):
            raise ConflictError(f"{self._given}: changed while it was read")
