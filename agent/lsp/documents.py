"""The documents that one server has open, and how they keep up with the disk.

Agents edit files, not buffers: so before every question all that is open is looked at
again, and what changed is told in full, under the next version. A document that the
caller never opened is opened for him, since some servers know nothing of others.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.errors import InvalidRequestError, TooLargeError
from agent.files.threads import Threads
from agent.lsp.client import Client
from agent.lsp.places import uri_of

DOCUMENT_MAX_BYTES = 8 * 1024 * 1024
"""Of one document; servers take tens of times as much memory for it."""
IMPLICIT_MAX = 64
"""Documents kept open that no caller opened; the oldest is closed."""
OPEN_MAX = 2048
"""Documents that callers have open at once."""

Stamp = tuple[int, int, int, int]
"""Modified, size, inode, device: what tells that a file is not the one that was read."""
UNKNOWN: Stamp = (0, 0, 0, 0)
"""Of no file, so that it is read at the next look."""


@dataclass
class Document:
    """A document that the server has open.

    Attributes:
        path: Where it lies.
        language: Its language id.
        version: Of the text that the server has.
        stamp: Of the file that was sent; None: the caller's own text stands.
        asked: A caller opened it.
        mark: What the server had told of diagnostics when it was given the text.
        told_at: What it had been told of the disk then.
    """

    path: str
    language: str
    version: int
    stamp: Stamp | None
    text: str
    asked: bool
    uri: str = field(init=False)
    mark: int = field(default=0, init=False)
    told_at: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.uri = uri_of(self.path)


@dataclass(frozen=True)
class Seen:
    """A file as it is now; no text: it is as it was."""

    path: str
    stamp: Stamp | None
    text: str | None = None
    error: OSError | None = None


class Documents:
    """What is open in one server; it outlives the server's process.

    Args:
        threads: Where files are read.
        moment: What the server has told of diagnostics so far, and was told of the disk.
    """

    def __init__(
        self, threads: Threads, moment: Callable[[], tuple[int, int]] = lambda: (0, 0)
    ) -> None:
        self._threads = threads
        self._moment = moment
        self._open: dict[str, Document] = {}
        # One at a time, or two questions would open one document twice.
        self._lock = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._open)

    def get(self, path: str) -> Document | None:
        """Return an open document."""
        return self._open.get(path)

    def all(self) -> tuple[Document, ...]:
        """Return all open documents."""
        return tuple(self._open.values())

    async def open(
        self, client: Client, path: str, language: str, *, asked: bool
    ) -> Document:
        """Have a document open, and all open ones as they are on the disk.

        Raises:
            InvalidRequestError: The file cannot be read; if it was open it is closed.
            TooLargeError: It, or their number, is past the limit.
        """
        async with self._lock:
            known = self._open.get(path)
            stamps = {each.path: each.stamp for each in self._open.values()}
            wanted: dict[str, Stamp | None] = {
                name: stamp for name, stamp in stamps.items() if stamp
            }
            if known is None:
                wanted[path] = None
            for seen in await self._threads.run(look, wanted):
                await self._follow(client, seen, path, language)
            document = self._open.get(path)
            if document is None:
                raise InvalidRequestError(f"file not found: {path}")
            document.asked = document.asked or asked
            # To the end: what is asked for least comes first.
            self._open[path] = self._open.pop(path)
            await self._close_surplus(client, path)
            return document

    async def refresh(self, client: Client) -> None:
        """Tell of all open documents that changed on the disk."""
        async with self._lock:
            wanted: dict[str, Stamp | None] = {
                each.path: each.stamp for each in self._open.values() if each.stamp
            }
            if wanted:
                for seen in await self._threads.run(look, wanted):
                    await self._follow(client, seen, "", "")

    async def set_text(
        self, client: Client, path: str, language: str, text: str
    ) -> int:
        """Give the server a text that is not on the disk; return its version."""
        if len(text) > DOCUMENT_MAX_BYTES:
            raise TooLargeError(f"document larger than {DOCUMENT_MAX_BYTES} bytes")
        async with self._lock:
            document = self._open.get(path)
            if document is None:
                document = Document(path, language, 1, None, text, asked=True)
                await self._send_open(client, document)
            else:
                document.stamp, document.asked = None, True
                await self._send_change(client, document, text)
            return document.version

    def doubt(self, paths: set[str]) -> None:
        """Have files read again at the next look, whatever their times tell."""
        for path in paths & self._open.keys():
            if self._open[path].stamp is not None:
                self._open[path].stamp = UNKNOWN

    async def touch(self, client: Client, path: str) -> None:
        """Give the server a text anew if other files changed since it got it.

        Or it would tell of what it found wrong with it before.
        """
        async with self._lock:
            document = self._open.get(path)
            if document is not None and document.told_at != self._moment()[1]:
                await self._send_change(client, document, document.text)

    async def follow_disk(self, path: str) -> None:
        """Let a document be what is on the disk again, from the next look on."""
        async with self._lock:
            if (document := self._open.get(path)) is not None and not document.stamp:
                document.stamp = UNKNOWN

    async def close(self, client: Client | None, path: str) -> None:
        """Close a document; does nothing when it is not open."""
        async with self._lock:
            await self._close(client, path)

    async def reopen(self, client: Client) -> None:
        """Open everything again in a new process."""
        async with self._lock:
            documents = list(self._open.values())
            wanted: dict[str, Stamp | None] = {
                each.path: None for each in documents if each.stamp
            }
            seen = {e.path: e for e in await self._threads.run(look, wanted)}
            for document in documents:
                now = seen.get(document.path)
                if now is not None and now.text is None:
                    del self._open[document.path]
                    continue
                if now is not None and now.text is not None:
                    document.stamp, document.text = now.stamp, now.text
                document.version = 1
                await self._send_open(client, document)

    async def _follow(
        self, client: Client, seen: Seen, asked: str, language: str
    ) -> None:
        document = self._open.get(seen.path)
        if seen.text is None:
            await self._close(client, seen.path)
            if seen.path == asked and seen.error is not None:
                raise unreadable(seen.path, seen.error)
        elif document is None:
            await self._send_open(
                client,
                Document(seen.path, language, 1, seen.stamp, seen.text, asked=False),
            )
        else:
            document.stamp = seen.stamp
            if document.text != seen.text:
                await self._send_change(client, document, seen.text)

    async def _send_open(self, client: Client, document: Document) -> None:
        if len(self._open) >= OPEN_MAX:
            raise TooLargeError(f"more than {OPEN_MAX} documents are open")
        document.mark, document.told_at = self._moment()
        await client.notify(
            "textDocument/didOpen",
            {
                "textDocument": {
                    "uri": document.uri,
                    "languageId": document.language,
                    "version": document.version,
                    "text": document.text,
                }
            },
        )
        self._open[document.path] = document

    async def _send_change(self, client: Client, document: Document, text: str) -> None:
        document.version += 1
        document.text = text
        document.mark, document.told_at = self._moment()
        await client.notify(
            "textDocument/didChange",
            {
                "textDocument": {"uri": document.uri, "version": document.version},
                "contentChanges": [{"text": text}],
            },
        )

    async def _close(self, client: Client | None, path: str) -> None:
        document = self._open.pop(path, None)
        if document is not None and client is not None:
            await client.notify(
                "textDocument/didClose", {"textDocument": {"uri": document.uri}}
            )

    async def _close_surplus(self, client: Client, kept: str) -> None:
        implicit = [each.path for each in self._open.values() if not each.asked]
        for path in implicit[: max(len(implicit) - IMPLICIT_MAX, 0)]:
            if path != kept:
                await self._close(client, path)


def look(wanted: dict[str, Stamp | None]) -> list[Seen]:
    """Return the files that differ from their stamps; blocks."""
    found = []
    for path, stamp in wanted.items():
        try:
            now = _stamp(path)
            if now == stamp:
                continue
            found.append(_read(path))
        except OSError as error:
            found.append(Seen(path, None, error=error))
    return found


def _stamp(path: str) -> Stamp:
    status = os.stat(path)
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev


def _read(path: str) -> Seen:
    # A FIFO would wait for its writer for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not os.path.isfile(path):
            raise IsADirectoryError(21, "not a regular file", path)
        status = os.fstat(descriptor)
        stamp = status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev
        content = file.read(DOCUMENT_MAX_BYTES + 1)
    if len(content) > DOCUMENT_MAX_BYTES:
        raise OSError(27, f"larger than {DOCUMENT_MAX_BYTES} bytes", path)
    return Seen(path, stamp, content.decode("utf-8", "replace"))


def unreadable(path: str, error: OSError) -> InvalidRequestError:
    """Return what the wire tells of a document that cannot be read (contract 40 §6)."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return InvalidRequestError(f"file not found: {path}")
    return InvalidRequestError(f"file cannot be read: {path}: {error.strerror}")
