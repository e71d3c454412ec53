"""Compresses and decompresses a stream a piece at a time, in constant memory."""

import sys
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from agent.errors import InvalidRequestError

if TYPE_CHECKING:
    from types import ModuleType

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
GZIP_LEVEL = 6
ZSTD_LEVEL = 3
ZSTD_JOB_BYTES = 1024 * 1024
"""Compressed by one go of zstd's own thread. Its usual 8 MiB are gathered first, with
that thread idle, and take more memory, for archives that are a thousandth smaller."""
PIECE_BYTES = 256 * 1024
"""Decompressed at once."""
WINDOW_LOG_MAX = 25
"""32 MiB: of what zstd makes, only `--ultra` and `--long` ask for more."""
_GZIP_WINDOW = zlib.MAX_WBITS | 16


class Compressor(Protocol):
    """What gzip and zstd have in common."""

    def compress(self, data: bytes, /) -> bytes:
        """Return what is ready of all that was given."""

    def flush(self) -> bytes:
        """Return the rest."""


class Plain:
    """No compression."""

    def compress(self, data: bytes, /) -> bytes:
        """Return it as it is."""
        return data

    def flush(self) -> bytes:
        """Return nothing."""
        return b""


def compressor(suffix: str) -> Compressor:
    """Return a new compressor for an archive format."""
    if suffix == "tar.gz":
        return zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    if suffix == "tar.zst":
        zstd = zstd_module()
        options = {
            zstd.CompressionParameter.compression_level: ZSTD_LEVEL,
            zstd.CompressionParameter.checksum_flag: 1,
            # Beside the reading of files, as `tar | zstd` does it.
            zstd.CompressionParameter.nb_workers: 1,
            zstd.CompressionParameter.job_size: ZSTD_JOB_BYTES,
        }
        found: Compressor = zstd.ZstdCompressor(options=options)
        return found
    return Plain()


def zstd_module() -> "ModuleType":
    """Return the module of zstd, loaded by its first use."""
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415
    else:
        from backports import zstd  # noqa: PLC0415
    return zstd


class _Decompressor(Protocol):
    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


class Broken(InvalidRequestError):  # noqa: N818 - says what it is
    """The archive is malformed, or not whole (400)."""


def decompressed(pieces: Iterator[bytes], kind: bytes) -> Iterator[bytes]:
    """Yield the content of one or more members, in pieces of a bounded size.

    Raises:
        Broken: It is malformed, or ends early.
    """
    if kind == GZIP:
        return _inflate(pieces)
    return _unzstd(pieces)


def _inflate(pieces: Iterator[bytes]) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    fed = False
    for given in pieces:
        piece = given
        while piece:
            if unpacker.eof:
                # Another member, or the padding that tapes have.
                piece = piece.lstrip(b"\0")
                if not piece:
                    break
                unpacker = zlib.decompressobj(_GZIP_WINDOW)
            fed = True
            try:
                yield unpacker.decompress(piece, PIECE_BYTES)
            except zlib.error as error:
                raise Broken(f"corrupt archive: {error}") from error
            piece = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    yield from _drained(unpacker)
    if not fed or not unpacker.eof:
        raise Broken("truncated archive")


def _drained(unpacker: "zlib._Decompress") -> Iterator[bytes]:
    """Yield what was taken in and did not fit into a piece."""
    while not unpacker.eof:
        try:
            piece = unpacker.decompress(b"", PIECE_BYTES)
        except zlib.error as error:
            raise Broken(f"corrupt archive: {error}") from error
        if not piece:
            return
        yield piece


def _unzstd(pieces: Iterator[bytes]) -> Iterator[bytes]:
    zstd = zstd_module()
    options = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG_MAX}

    def fresh() -> _Decompressor:
        found: _Decompressor = zstd.ZstdDecompressor(options=options)
        return found

    unpacker = fresh()
    for given in pieces:
        piece = given
        while piece:
            if unpacker.eof:
                unpacker = fresh()
            yield from _frame(unpacker, piece, zstd.ZstdError)
            piece = unpacker.unused_data if unpacker.eof else b""
    if not unpacker.eof:
        raise Broken("truncated archive")


def _frame(
    unpacker: _Decompressor, piece: bytes, error_kind: type[Exception]
) -> Iterator[bytes]:
    """Yield what one piece makes; the rest of it waits inside."""
    call: Callable[..., bytes] = unpacker.decompress
    try:
        found = call(piece, max_length=PIECE_BYTES)
        while found:
            yield found
            found = b"" if unpacker.eof else call(b"", max_length=PIECE_BYTES)
    except error_kind as error:
        raise Broken(f"corrupt archive: {error}") from error
