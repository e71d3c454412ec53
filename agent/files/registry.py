"""The owner of what the file routes work with: threads, journal, how paths resolve."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial

import msgspec

from agent.errors import InvalidRequestError
from agent.files.attributes import describe
from agent.files.bulk_download import BulkDownload, Explain
from agent.files.conditions import Conditions
from agent.files.content import Content, open_content
from agent.files.deletion import delete
from agent.files.directories import make_directories
from agent.files.downloads import INLINE_BYTES, Plan, plan_download
from agent.files.forms import Form, form_boundary
from agent.files.hashes import Hashing
from agent.files.journal import Journal
from agent.files.listing import Listing
from agent.files.models import FileInfo
from agent.files.moving import Move
from agent.files.paths import Paths, base_name, is_home_path, told_as
from agent.files.permissions import set_permissions
from agent.files.sending import Wire
from agent.files.threads import Threads
from agent.files.uploads import (
    Body,
    BulkOutcome,
    BulkUpload,
    Check,
    Sink,
    store_body,
    store_form,
)
from agent.files.writing import Upload, follow
from agent.wire import UNSET

ENTRY_THREADS = 8
"""Listings, deletions and the like at once; more wait their turn."""
TRANSFER_THREADS = 8
"""Reads and writes at once; slow clients hold none (`sending`)."""


class Files:
    """The files of the sandbox.

    Args:
        work_dir: The absolute directory that relative paths start from.
        state_dir: The agent's state directory.

    Attributes:
        transfers: The threads in which content is read and written.
        paths: How paths resolve.
        in_place: Held while an existing file is filled in place: one at a time, so that
            two never mix.
    """

    def __init__(self, work_dir: str, state_dir: str) -> None:
        self.transfers = Threads("transfers", TRANSFER_THREADS)
        self._entries = Threads("entries", ENTRY_THREADS)
        self.paths = Paths(work_dir)
        self._journal = Journal(state_dir)
        self._spool_dir = os.path.join(state_dir, "uploads")
        self.in_place = asyncio.Lock()
        self._sweeping: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to clear up after agents that were killed."""
        self._sweeping = asyncio.create_task(self._entries.run(self._journal.sweep))

    async def aclose(self) -> None:
        """End what runs, and the threads."""
        if self._sweeping is not None:
            await self._sweeping
        await self._entries.run(self._journal.close)
        await self._entries.aclose()
        await self.transfers.aclose()

    async def info(self, path: str, *, with_path: bool) -> FileInfo:
        """Describe one entry, links followed.

        Raises:
            OSError: It is missing, or the system refuses.
        """
        return await self._entries.run(self._info, path, with_path)

    async def hashed_info(self, path: str, *, with_path: bool) -> FileInfo:
        """Describe one regular file together with the hash of its content.

        Raises:
            AgentError: It is no regular file, too large, or changed meanwhile.
            OSError: It is missing, or the system refuses.
        """
        content = await self.transfers.run(self._open_content, path)
        try:
            hashing = Hashing(content, path)
            # A piece at a time, so that nobody else waits for all of a large file.
            while not await self.transfers.run(hashing.step):
                pass
        finally:
            content.close()
        info = describe(
            base_name(path),
            path if with_path else UNSET,
            hashing.status,
            is_dir=False,
        )
        return msgspec.structs.replace(info, sha256=hashing.hexdigest)

    def _info(self, path: str, with_path: bool) -> FileInfo:
        with told_as(path):
            found = os.stat(self.paths.resolve(path))
        return describe(
            base_name(path),
            path if with_path else UNSET,
            found,
            is_dir=stat.S_ISDIR(found.st_mode),
        )

    async def list(
        self, path: str, depth: int, *, with_paths: bool
    ) -> bytes | AsyncIterator[bytes]:
        """Return the entries below a directory as JSON; in blocks when there are many.

        Raises:
            OSError: It cannot be listed.
        """
        listing = Listing(self.paths, path, depth, with_paths=with_paths)
        first = await self._entries.run(listing.block)
        return first if listing.done else self._blocks(listing, first)

    async def _blocks(self, listing: Listing, first: bytes) -> AsyncIterator[bytes]:
        yield first
        while not listing.done:
            yield await self._entries.run(listing.block)

    async def make_folder(self, path: str, mode: int) -> None:
        """Make a directory and its missing parents.

        Raises:
            OSError: Something else is in the way, or the system refuses.
        """
        await self._entries.run(self._make_folder, path, mode)

    def _make_folder(self, path: str, mode: int) -> None:
        with told_as(path):
            make_directories(self.paths.resolve(path), mode)

    async def delete(self, path: str, *, recursive: bool) -> None:
        """Delete an entry, or a tree.

        Raises:
            AgentError: It is a directory, a mount point, or the root.
            OSError: It is missing, or the system refuses.
        """
        await self._entries.run(self._delete, path, recursive)

    def _delete(self, path: str, recursive: bool) -> None:
        with told_as(path):
            delete(self.paths.resolve(path), recursive=recursive)

    async def move(self, source: str, destination: str) -> str | None:
        """Move an entry to a free name; return why the source is still there, if so.

        Raises:
            AgentError: The destination is taken, or makes no sense.
            OSError: One of the two is missing, or the system refuses.
        """
        move = Move(self.paths, self._journal)
        return await self._entries.run(move.make, source, destination)

    async def set_permissions(
        self, path: str, mode: int | None, owner: str | None, group: str | None
    ) -> None:
        """Set mode, owner and group of an entry, links followed.

        Raises:
            InvalidRequestError: There is no such user or group.
            OSError: It is missing, or the system refuses.
        """
        await self._entries.run(self._set_permissions, path, mode, owner, group)

    def _set_permissions(
        self, path: str, mode: int | None, owner: str | None, group: str | None
    ) -> None:
        with told_as(path):
            set_permissions(self.paths.resolve(path), mode, owner, group)

    async def open_content(self, path: str) -> Content:
        """Open a regular file for reading; the caller closes it.

        Raises:
            AgentError: It is no regular file.
            OSError: It is missing, or the system refuses.
        """
        if is_home_path(path):
            return await self.transfers.run(self._open_content, path)
        # In the loop: a hand-over to a thread takes five times as long as this.
        return self._open_content(path)

    def _open_content(self, path: str) -> Content:
        return open_content(self.paths.resolve(path), path)

    async def plan_download(
        self, content: Content, path: str, headers: Mapping[str, str]
    ) -> Plan:
        """Return the answer to a download.

        Raises:
            AgentError: A condition does not hold, or the range lies outside.
        """
        if 0 < content.size_bytes <= INLINE_BYTES:
            data = content.read_cached()
            if data is not None:
                return plan_download(content, path, headers, data)
        return await self.transfers.run(plan_download, content, path, headers)

    async def send_many(
        self, wanted: Sequence[str], boundary: str, explain: Explain, wire: Wire
    ) -> None:
        """Send many files as the parts of one form.

        Raises:
            ConnectionResetError: The client left.
        """
        download = BulkDownload(self.paths, self.transfers, boundary, explain)
        await download.send(wanted, wire)

    async def upload(
        self, path: str, headers: Mapping[str, str], body: Body
    ) -> str | None:
        """Store a body, or the field `file` of a form, at `path`; return its tag.

        The tag is the ETag that a download of this version has; devices have none.

        Raises:
            PreconditionError: The client knows another version of the file.
            AgentError: It cannot be stored there, or the form is malformed.
            OSError: The system refuses.
        """
        boundary = form_boundary(headers.get("Content-Type", ""))
        conditions = Conditions(headers)
        check: Check | None = None
        if conditions.given:
            check = partial(self._check, conditions, path)
            # Now too, so that nobody sends what will not be stored.
            await self.transfers.run(check)
        sink = self._sink(path, check)
        if boundary is None:
            await store_body(sink, body)
        else:
            await store_form(sink, Form(boundary), body)
        return sink.tag

    async def upload_many(self, content_type: str, body: Body) -> BulkOutcome:
        """Store the files of a form; what fails is told in the outcome."""
        try:
            boundary = form_boundary(content_type)
            form = Form(boundary) if boundary else None
        except InvalidRequestError:
            form = None
        if form is None:
            return BulkOutcome(errors=["invalid multipart form"], disk_full=False)
        return await BulkUpload(self._sink).store(form, body)

    def new_upload(self, path: str) -> Upload:
        """Return an upload that can take the place of the file at `path`."""
        return Upload(self.paths, path, self._journal, self._spool_dir)

    def _check(self, conditions: Conditions, path: str) -> None:
        with told_as(path):
            conditions.check(follow(self.paths.resolve(path))[1])

    def _sink(self, path: str, check: Check | None = None) -> Sink:
        upload = self.new_upload(path)
        return Sink(upload, path, self.transfers, self.in_place, check)
