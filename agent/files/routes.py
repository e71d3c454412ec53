"""The routes of files: entries, downloads, uploads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from aiohttp import hdrs, web
from aiohttp.http_writer import StreamWriter

from agent import wire
from agent.errors import InvalidRequestError, TimeLimitError
from agent.files.content import Content
from agent.files.directories import parse_mode
from agent.files.downloads import Plan
from agent.files.models import (
    BulkDownloadRequest,
    BulkUploadResult,
    FileInfo,
    UploadedFile,
)
from agent.files.paths import base_name
from agent.files.ranges import Span, boundary
from agent.files.receiving import Inlet
from agent.files.registry import Files
from agent.files.sending import ShortFileError, Wire
from agent.files.uploads import Body, BulkOutcome
from agent.registry import SETTINGS, WORK_DIR
from agent.web.clients import takes_new_fields
from agent.web.errors import BROKEN_BODY, Failure, envelope, failure_of
from agent.web.routes import JSON_TYPE, Encoded, PositiveInt, Routes

routes = Routes("files")

FILES = web.AppKey("files", Files)
"""The owner of file work."""

BODY_STALL_LIMIT_S = 600.0
"""Time for which an uploading client may send nothing before it counts as gone."""
TAKEN_BYTES = 16 * 1024 * 1024
"""From this size on, an upload is received by threads: that is twice as fast, and costs
the client a new connection for its next request."""
GIVEN_BYTES = 256 * 1024
"""Given back at once."""


async def context(app: web.Application) -> AsyncIterator[None]:
    """Open what the routes work with, and close it."""
    files = Files(app[WORK_DIR], app[SETTINGS].state_dir)
    app[FILES] = files
    files.open()
    yield
    await files.aclose()


@routes.get("/files", errors=(400, 403, 404))
async def list_files(
    request: web.Request, path: str | None = None, depth: PositiveInt = 1
) -> Encoded[list[FileInfo]]:
    """List what is in a directory.

    Entries come sorted by name, each directory followed by what is in it as deep as
    asked. Links have the data of what they lead to, or their own when it is not there.
    """
    with_paths = takes_new_fields(request.headers)
    return Encoded(
        await request.app[FILES].list(path or ".", depth, with_paths=with_paths)
    )


@routes.get("/files/info", errors=(400, 403, 404, 409, 413))
async def get_file_info(
    request: web.Request,
    path: str,
    hash: Literal["sha256"] | None = None,  # noqa: A002 - its name on the wire
) -> FileInfo:
    """Describe one entry, links followed; with `hash`, a file's content too."""
    files = request.app[FILES]
    with_path = takes_new_fields(request.headers)
    if hash is None:
        return await files.info(path, with_path=with_path)
    return await files.hashed_info(path, with_path=with_path)


@routes.post("/files/folder", status=201, errors=(400, 403))
async def create_folder(request: web.Request, path: str, mode: str = "0755") -> None:
    """Make a directory and its missing parents; one that exists stays as it is."""
    await request.app[FILES].make_folder(path, parse_mode(mode))


@routes.delete("/files", status=204, errors=(400, 403, 404, 409))
async def delete_file(request: web.Request, path: str, recursive: bool = False) -> None:
    """Delete an entry; a directory, with all in it, only when `recursive` is true.

    Links are deleted themselves, never what they lead to.
    """
    await request.app[FILES].delete(path, recursive=recursive)


@routes.post("/files/move", errors=(400, 403, 404, 409, 507))
async def move_file(
    request: web.Request, source: str, destination: str
) -> web.Response | None:
    """Move an entry to a free name.

    Nothing is overwritten, nothing is moved into a directory that has the name, and no
    parents are made. Links are moved themselves.
    """
    left = await request.app[FILES].move(source, destination)
    return None if left is None else _left_behind(left)


@routes.post("/files/permissions", errors=(400, 403, 404))
async def set_file_permissions(
    request: web.Request,
    path: str,
    mode: str | None = None,
    owner: str | None = None,
    group: str | None = None,
) -> None:
    """Set mode, owner and group of an entry, links followed; what is left out stays."""
    bits = None if mode is None else parse_mode(mode)
    await request.app[FILES].set_permissions(path, bits, owner, group)


@routes.get("/files/download", errors=(400, 403, 404, 412, 416), signed=True)
async def download_file(request: web.Request, path: str) -> web.StreamResponse:
    """Download one file, whole or in ranges."""
    files = request.app[FILES]
    content = await files.open_content(path)
    try:
        plan = await files.plan_download(content, path, request.headers)
        return await _send_plan(request, plan, content)
    finally:
        content.close()


@routes.post("/files/bulk-download", errors=(400,))
async def download_files(
    request: web.Request, body: BulkDownloadRequest
) -> web.StreamResponse:
    """Download many files as the parts of one form.

    A file that cannot be had is a part named `error` with the envelope of its failure.
    """
    mark = boundary()
    response = web.StreamResponse(
        headers={"Content-Type": f"multipart/form-data; boundary={mark}"}
    )
    await response.prepare(request)
    await request.app[FILES].send_many(
        body.paths, mark, _explain, _wire(request, response)
    )
    await response.write_eof()
    return response


@routes.post("/files/upload", errors=(400, 403, 412, 507), upload=True)
async def upload_file_legacy(request: web.Request, path: str) -> web.Response | None:
    """Store the field `file` of a form, or a body as it is, at `path`."""
    return web.Response(headers=await _upload(request, path))


@routes.post("/files/upload-v2", errors=(400, 403, 412, 507), signed=True, upload=True)
async def upload_file(
    request: web.Request, path: str
) -> UploadedFile | web.StreamResponse:
    """Store the field `file` of a form, or a body as it is, at `path`.

    The file is replaced as a whole once all of it has come: until then, and after any
    failure, it is what it was. The answer has the ETag of what was stored.
    """
    headers = {"Content-Type": JSON_TYPE, **await _upload(request, path)}
    name, path = wire.printable(base_name(path)), wire.printable(path)
    stored = UploadedFile(name=name, path=path)
    return web.Response(body=wire.encode(stored), headers=headers)


@routes.post("/files/bulk-upload", errors=(400, 507), upload=True)
async def upload_files(
    request: web.Request,
) -> BulkUploadResult | web.StreamResponse:
    """Store the files of a form: `files[i].path` says where `files[i].file` goes.

    Every failure is told; the other files are stored all the same.
    """
    content_type = request.headers.get("Content-Type", "")
    async with uploaded(request) as body:
        outcome = await request.app[FILES].upload_many(content_type, body)
    if outcome.errors:
        return _bulk_failure(request, outcome)
    return BulkUploadResult(files=outcome.files)


def _left_behind(reason: str) -> web.Response:
    """Return the success of a move that could not delete its source (contract 10 §9)."""
    told = {"message": "copied, but the source is still there", "error": reason}
    body = wire.encode({key: wire.printable(text) for key, text in told.items()})
    return web.Response(body=body, headers={"Content-Type": JSON_TYPE})


async def _upload(request: web.Request, path: str) -> dict[str, str]:
    """Store one file; return the headers of the answer."""
    async with uploaded(request) as body:
        tag = await request.app[FILES].upload(path, request.headers, body)
    return {} if tag is None else {"ETag": tag}


@asynccontextmanager
async def uploaded(request: web.Request) -> AsyncIterator[Body]:
    """Yield the body of an upload.

    A large one is taken from the server, which then never learns that it has ended, so
    the connection ends with the answer. When not all of it was wanted the server goes
    on: it listens for a while to a client that is still sending.
    """
    size_bytes = request.content_length
    transport = request.transport
    if transport is None or size_bytes is None or size_bytes < TAKEN_BYTES:
        yield body_of(request)
        return
    inlet = _take(request, transport, size_bytes)
    try:
        yield inlet
    except ConnectionResetError:
        transport.abort()
        raise
    finally:
        inlet.close()
        if inlet.left_bytes:
            await _give_back(request, transport, inlet.taken_bytes)
        else:
            request.content.set_exception(_TakenError())


def _take(request: web.Request, transport: asyncio.Transport, size_bytes: int) -> Inlet:
    first = []
    # Reading what the server has may let it go on, so it is stopped only then.
    while chunk := request.content.read_nowait():
        first.append(chunk)
    transport.pause_reading()
    return Inlet(
        transport.get_extra_info("socket").fileno(),
        first,
        size_bytes - sum(map(len, first)),
        request.app[FILES].transfers,
        BODY_STALL_LIMIT_S,
    )


class _TakenError(Exception):
    """There is nothing more to be read by the server."""


async def _give_back(
    request: web.Request, transport: asyncio.Transport, taken_bytes: int
) -> None:
    """Let the server go on with a connection of which we have taken so many bytes.

    Its parser counts a body's bytes, and there is no other way to tell it.
    """
    zeros = bytes(GIVEN_BYTES)
    while taken_bytes and not transport.is_closing():
        request.protocol.data_received(zeros[:taken_bytes])
        request.content.read_nowait()
        taken_bytes -= min(taken_bytes, GIVEN_BYTES)
        await asyncio.sleep(0)
    transport.resume_reading()


async def body_of(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the request's body; end without an error only when all of it came."""
    while True:
        try:
            async with asyncio.timeout(BODY_STALL_LIMIT_S):
                chunk = await request.content.readany()
        except TimeoutError as error:
            raise TimeLimitError("the client sent nothing for too long") from error
        except Exception as error:
            if request.transport is None:
                raise ConnectionResetError("the client left") from error
            if isinstance(error, BROKEN_BODY):
                raise InvalidRequestError("malformed request body") from error
            raise
        if not chunk:
            return
        yield chunk


class _Latin1Headers(web.StreamResponse):
    """Writes its headers in Latin-1, as HTTP has them, where aiohttp writes UTF-8."""

    _send_headers_immediately = False

    async def _write_headers(self) -> None:
        await super()._write_headers()
        writer = self._payload_writer
        assert isinstance(writer, StreamWriter)  # noqa: S101 - for the types
        head = writer._headers_buf  # noqa: SLF001 - there is no other way in
        if head is not None and not head.isascii():
            writer._headers_buf = head.decode().encode("latin-1")  # noqa: SLF001


class _ReadyFile(_Latin1Headers, web.Response):
    """A file, or parts of it, that stands in memory."""


async def _send_plan(
    request: web.Request, plan: Plan, content: Content
) -> web.StreamResponse:
    """Send a planned download."""
    ready = [piece for piece in plan.pieces if isinstance(piece, bytes)]
    if len(ready) == len(plan.pieces) and plan.size_bytes is not None:
        body = ready[0] if len(ready) == 1 else b"".join(ready)
        if ready:
            # aiohttp leaves it out of the answer to HEAD when it is 0.
            plan.headers["Content-Length"] = str(plan.size_bytes)
        return _ReadyFile(status=plan.status, body=body, headers=plan.headers)
    response = _Latin1Headers(status=plan.status, headers=plan.headers)
    response.content_length = plan.size_bytes
    await response.prepare(request)
    request.writer.send_headers()
    if request.method == hdrs.METH_HEAD:
        return response
    line = _wire(request, response)
    try:
        for piece in plan.pieces:
            if isinstance(piece, Span):
                await line.send_file(content, piece.start, piece.size_bytes)
            else:
                await line.write(piece)
        if plan.size_bytes is None:
            await line.send_to_end(content, sum(map(len, ready)))
    except ShortFileError as error:
        _cut(request)
        raise ConnectionResetError("the file became shorter") from error
    await response.write_eof()
    return response


def _wire(request: web.Request, response: web.StreamResponse) -> Wire:
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client left")
    return Wire(transport, response.write, request.app[FILES].transfers)


def _cut(request: web.Request) -> None:
    """Break the connection: a client must not take a part for the whole."""
    if request.transport is not None:
        request.transport.abort()


def _explain(error: Exception, path: str) -> bytes:
    """Return the envelope of one file's failure in a bulk download."""
    failure = failure_of(error)
    if failure.status == 500:
        message = f"failed to open file: {path}"
        failure = Failure(500, "FILE_READ_FAILED", message, {}, expected=True)
    return wire.encode(envelope(failure, path=path, method="POST"))


def _bulk_failure(request: web.Request, outcome: BulkOutcome) -> web.Response:
    """Return the envelope, with the errors and the files that were stored all the same."""
    status, code = (
        (507, "INSUFFICIENT_STORAGE") if outcome.disk_full else (400, "BAD_REQUEST")
    )
    failure = Failure(status, code, ", ".join(outcome.errors), {}, expected=True)
    body = {
        **envelope(failure, path="/files/bulk-upload", method=request.method),
        "errors": outcome.errors,
        "files": outcome.files,
    }
    return web.Response(
        status=status, body=wire.encode(body), headers={"Content-Type": JSON_TYPE}
    )
