"""Hashes content by OpenSSL's SHA-256, several times as fast as Python's own.

The agent starts without OpenSSL (`agent/lean.py`), so it is loaded by the first hash.
"""

from typing import Protocol


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
