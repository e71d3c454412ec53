"""The routes of archives."""

from collections.abc import AsyncIterator
from contextlib import aclosing

from aiohttp import hdrs, web

from agent.files.archives.archives import Archives
from agent.files.archives.models import ArchiveFormat, Extracted
from agent.files.names import disposition, encoded
from agent.files.paths import base_name
from agent.files.routes import body_of
from agent.files.sending import ShortFileError
from agent.registry import SETTINGS, WORK_DIR
from agent.web.routes import Routes
from agent.wire import printable

routes = Routes("files")

ARCHIVES = web.AppKey("archives", Archives)
"""The owner of archive work."""

TYPES: dict[ArchiveFormat, str] = {
    "tar": "application/x-tar",
    "tar.gz": "application/gzip",
    "tar.zst": "application/zstd",
    "zip": "application/zip",
}


async def context(app: web.Application) -> AsyncIterator[None]:
    """Open what the routes work with, and close it."""
    archives = Archives(app[WORK_DIR], app[SETTINGS].state_dir)
    app[ARCHIVES] = archives
    yield
    await archives.aclose()


@routes.get("/files/archive", errors=(400, 403, 404))
async def download_archive(
    request: web.Request,
    path: str,
    format: ArchiveFormat = "tar.gz",  # noqa: A002 - the parameter's name on the wire
) -> web.StreamResponse:
    """Download a directory, or a file, as an archive.

    Names in it are below the directory. Links are stored as links; what cannot be stored
    (pipes, sockets, devices, what may not be read) is left out and counted in the
    archive's comment.
    """
    async with aclosing(request.app[ARCHIVES].pack(path, format)) as blocks:
        # The first one before the status: what cannot be read is an ordinary error.
        block = await anext(blocks)
        response = web.StreamResponse(
            headers={
                "Content-Type": TYPES[format],
                "Content-Disposition": _disposition(path, format),
            }
        )
        await response.prepare(request)
        if request.method == hdrs.METH_HEAD:
            return response
        await response.write(block)
        await _send(request, response, blocks)
    return response


async def _send(
    request: web.Request,
    response: web.StreamResponse,
    blocks: AsyncIterator[bytes],
) -> None:
    try:
        async for block in blocks:
            await response.write(block)
    except ShortFileError as error:
        # A client must not take a part for the whole.
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("a file became shorter") from error
    await response.write_eof()


@routes.post("/files/extract", errors=(400, 403, 408, 413, 429, 507), upload=True)
async def extract_archive(
    request: web.Request,
    path: str,
    format: ArchiveFormat | None = None,  # noqa: A002 - as above
) -> Extracted:
    """Unpack the archive in the body to a directory, never to anywhere else.

    Files replace those that are there, each as a whole. What would lie or lead outside,
    devices and pipes are skipped and told. The format is found out when it is not given.
    """
    return await request.app[ARCHIVES].unpack(path, format, body_of(request))


def _disposition(path: str, suffix: str) -> str:
    name = base_name(path)
    name = f"{'files' if name in {'', '.', '..', '/', '~'} else name}.{suffix}"
    found = disposition("attachment", name)
    if found.isascii():
        return found
    return f"attachment; filename*=utf-8''{encoded(printable(name))}"
