"""Answers a bulk download: many files as the parts of one form (contract 10 §6)."""

from collections.abc import Callable, Iterable, Iterator

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


class _Batch(msgspec.Struct, frozen=True):
    """Parts that are sent together; of the last one there may be more.

    Attributes:
        data: The bytes of the parts.
        content: The open file that the last one continues with.
        sent_bytes: How much of that file stands in `data`.
        is_last: Whether the closing boundary stands in `data`.
    """

    data: bytes
    content: Content | None = None
    sent_bytes: int = 0
    is_last: bool = False


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
        self._separator = b""

    async def send(self, wanted: Iterable[str], wire: Wire) -> None:
        """Send one part for every path, in their order.

        When a file cannot be read to its end the answer stops there, without the closing
        boundary, which is how clients tell.

        Raises:
            ConnectionResetError: The client left.
        """
        left = iter(wanted)
        while True:
            batch = await self._threads.run(self._gather, left)
            try:
                await wire.write(batch.data)
                if batch.content is not None:
                    await self._send_rest(wire, batch.content, batch.sent_bytes)
            except ConnectionError:
                raise
            except (ShortFileError, OSError):
                return
            finally:
                if batch.content is not None:
                    batch.content.close()
            if batch.is_last:
                return

    @staticmethod
    async def _send_rest(wire: Wire, content: Content, sent: int) -> None:
        if content.is_virtual:
            await wire.send_to_end(content, sent)
        else:
            await wire.send_copies(content, sent, content.size_bytes - sent)

    def _gather(self, left: Iterator[str]) -> _Batch:
        """Read files until there is enough to send; runs in a thread.

        Many files by one trip: that alone costs as much as reading six of them.
        """
        found: list[bytes] = []
        size_bytes = 0
        for path in left:
            head, data, content = self._load(path)
            found += (self._separator, head, data)
            self._separator = b"\r\n"
            if content is not None:
                return _Batch(b"".join(found), content, len(data))
            size_bytes += len(head) + len(data)
            if size_bytes >= GATHER_BYTES:
                return _Batch(b"".join(found))
        found.append(f"\r\n--{self._boundary}--\r\n".encode())
        return _Batch(b"".join(found), is_last=True)

    def _load(self, path: str) -> tuple[bytes, bytes, Content | None]:
        """Return a part's head and what was read of it, and the file if there is more."""
        try:
            return self._load_file(path)
        except (AgentError, OSError) as error:
            data = self._explain(error, path)
            head = self._head("error", path, "application/json; charset=utf-8")
            return head + b"\r\n", data, None

    def _load_file(self, path: str) -> tuple[bytes, bytes, Content | None]:
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
                head += b"Content-Length: %d\r\n" % size
            return head + b"\r\n", data, content if keep else None
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
