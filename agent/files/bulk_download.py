"""Answers a bulk download: many files as the parts of one form (contract 10 §6)."""

from collections.abc import Callable, Iterable

import msgspec

from agent.errors import AgentError, InvalidPathError
from agent.files.content import Content, open_content
from agent.files.downloads import INLINE_BYTES
from agent.files.names import content_type, disposition
from agent.files.paths import Paths
from agent.files.sending import ShortFileError, Wire
from agent.files.threads import Threads

Explain = Callable[[Exception, str], bytes]
"""Returns the envelope that tells why the file of this path cannot be had."""

GATHER_BYTES = 256 * 1024
"""Small parts are sent together up to this size."""


class _Part(msgspec.Struct, frozen=True):
    """One part: what is there of it, and the open file when there is more."""

    head: bytes
    data: bytes
    content: Content | None = None


class BulkDownload:
    """One bulk download.

    Args:
        paths: How the files' paths resolve.
        threads: Where files are read.
        boundary: What separates the parts.
        explain: Returns the envelope of a failure.
    """

    def __init__(
        self, paths: Paths, threads: Threads, boundary: str, explain: Explain
    ) -> None:
        self._paths = paths
        self._threads = threads
        self._boundary = boundary
        self._explain = explain
        self._gathered = bytearray()

    async def send(self, wanted: Iterable[str], wire: Wire) -> None:
        """Send one part for every path, in their order.

        When a file cannot be read to its end the answer stops there, without the closing
        boundary, which is how clients tell.

        Raises:
            ConnectionResetError: The client left.
        """
        for number, path in enumerate(wanted):
            part = await self._threads.run(self._load, path)
            self._gathered += b"\r\n" * (number > 0) + part.head + part.data
            try:
                if part.content is not None or len(self._gathered) >= GATHER_BYTES:
                    await self._flush(wire)
                if part.content is not None:
                    await self._send_rest(wire, part.content, len(part.data))
            except ConnectionError:
                raise
            except (ShortFileError, OSError):
                return
            finally:
                if part.content is not None:
                    part.content.close()
        self._gathered += f"\r\n--{self._boundary}--\r\n".encode()
        await self._flush(wire)

    async def _flush(self, wire: Wire) -> None:
        data, self._gathered = bytes(self._gathered), bytearray()
        await wire.write(data)

    @staticmethod
    async def _send_rest(wire: Wire, content: Content, sent: int) -> None:
        if content.is_virtual:
            await wire.send_to_end(content, sent)
        else:
            await wire.send_copies(content, sent, content.size_bytes - sent)

    def _load(self, path: str) -> _Part:
        """Open a file and read it, or the beginning of it; runs in a thread."""
        try:
            return self._load_file(path)
        except (AgentError, OSError) as error:
            data = self._explain(error, path)
            head = self._head("error", path, "application/json; charset=utf-8")
            return _Part(head + b"\r\n", data)

    def _load_file(self, path: str) -> _Part:
        if not path:
            raise InvalidPathError("invalid file path: path is empty")
        try:
            content = open_content(self._paths.resolve(path), path)
        except IsADirectoryError as error:
            raise InvalidPathError(
                f"invalid file path: path points to a directory: {path}"
            ) from error
        keep = False
        try:
            head = self._head("file", path, content_type(path))
            wanted = content.size_bytes or INLINE_BYTES + 1
            data = content.read(0, min(wanted, INLINE_BYTES + 1))
            keep = len(data) > INLINE_BYTES
            if not (keep and content.is_virtual):
                # What was read counts: some virtual files claim a size of their own.
                size = content.size_bytes if keep else len(data)
                head += f"Content-Length: {size}\r\n".encode()
            return _Part(head + b"\r\n", data, content if keep else None)
        finally:
            if not keep:
                content.close()

    def _head(self, name: str, path: str, media_type: str) -> bytes:
        # The name comes first: one official client takes the first match.
        names = disposition(f'form-data; name="{name}"', path)
        return (
            f"--{self._boundary}\r\n"
            f"Content-Disposition: {names}\r\n"
            f"Content-Type: {media_type}\r\n"
        ).encode("latin-1")
