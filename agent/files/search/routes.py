"""The routes of find, search and replace (contract 10 §11-13)."""

from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from aiohttp import web

from agent.files.routes import FILES
from agent.files.search.engine.bounds import CONTEXT_MAX_LINES
from agent.files.search.models import (
    Match,
    ReplaceRequest,
    ReplaceResult,
    SearchFilesResponse,
)
from agent.files.search.replacing import Replacing
from agent.files.search.searches import Found, Options, Searches
from agent.registry import KEEPER, WORK_DIR
from agent.web.routes import JSON_TYPE, PositiveInt, Routes

routes = Routes("files")

SEARCHES = web.AppKey("searches", Searches)
REPLACING = web.AppKey("replacing", Replacing)

COUNT_HEADER = "X-Toolbox-Results"
"""How many results the answer holds."""
CUT_HEADER = "X-Toolbox-Cut"
"""What the answer was cut by: `results`, `bytes` or `time`; absent when it is whole."""
CURSOR_HEADER = "X-Toolbox-Cursor"
"""What to give as `cursor` for the results behind a cut answer, where that is known."""
CUT_LINES_HEADER = "X-Toolbox-Cut-Lines"
"""Of how many results the content is not whole; absent when of none."""
ENGINE_HEADER = "X-Toolbox-Engine"
"""What searched: `ripgrep` or `python`."""

ContextLines = Annotated[int, msgspec.Meta(ge=0, le=CONTEXT_MAX_LINES)]


async def context(app: web.Application) -> AsyncIterator[None]:
    """Open what the routes work with, and close it."""
    files = app[FILES]
    searches = Searches(app[KEEPER], app[WORK_DIR])
    replacing = Replacing(files.paths, files.new_upload, files.in_place)
    app[SEARCHES] = searches
    app[REPLACING] = replacing
    yield
    await replacing.aclose()
    await searches.aclose()


@routes.get("/files/find", errors=(400, 403, 404, 429, 503, 507))
async def find_in_files(  # noqa: PLR0913, PLR0917 - the signature is the contract
    request: web.Request,
    path: str,
    pattern: str,
    regex: bool = False,
    ignore_case: bool = False,
    context: ContextLines = 0,
    include: str | None = None,
    exclude: str | None = None,
    gitignore: bool = False,
    max_results: PositiveInt | None = None,
    cursor: str | None = None,
) -> list[Match] | web.StreamResponse:
    """Find the lines that hold a text, in one file or in all below a directory.

    The text is literal unless `regex` is true. Every regular file is looked into, hidden
    and ignored ones too; not binary ones, which have a NUL byte among their first 512.
    Links are not followed, but for `path` itself. Files come in the order of their names,
    content is cut at 64 KiB. `include` and `exclude` are name globs between commas; what
    is excluded is left out with all below it. `context` asks for the lines around a match
    (`before` and `after`). `X-Toolbox-Cut` says whether `maxResults`, the size or the
    60 seconds of a search cut the answer; `X-Toolbox-Cursor` then gets the rest.
    """
    options = Options(
        regex=regex,
        ignore_case=ignore_case,
        context=context,
        include=_globs(include),
        exclude=_globs(exclude),
        gitignore=gitignore,
        max_results=max_results or 0,
        cursor=cursor,
    )
    return await _answer(request, "text", path, pattern, options)


@routes.get("/files/search", errors=(400, 403, 404, 429, 503, 507))
async def search_files(  # noqa: PLR0913, PLR0917 - the signature is the contract
    request: web.Request,
    path: str,
    pattern: str,
    regex: bool = False,
    ignore_case: bool = False,
    include: str | None = None,
    exclude: str | None = None,
    gitignore: bool = False,
    max_results: PositiveInt | None = None,
    cursor: str | None = None,
) -> SearchFilesResponse | web.StreamResponse:
    r"""Find the entries whose name matches a glob, the root included.

    `*` is any run, `?` one character, `[a-z]` a class that `^` negates, `\` escapes; a
    malformed glob matches nothing. Only base names are looked at. With `regex` the
    pattern is an expression, found anywhere in the name. The other parameters and the
    headers are as of `/files/find`.
    """
    options = Options(
        regex=regex,
        ignore_case=ignore_case,
        include=_globs(include),
        exclude=_globs(exclude),
        gitignore=gitignore,
        max_results=max_results or 0,
        cursor=cursor,
    )
    return await _answer(request, "names", path, pattern, options)


@routes.post("/files/replace", errors=(400,))
async def replace_in_files(
    request: web.Request, body: ReplaceRequest
) -> list[ReplaceResult]:
    """Replace every occurrence of a text in each of the files, literally.

    Each file is replaced as a whole, keeps its mode and owner, and is not touched when
    nothing matches. What fails is told for its file; the others are done all the same.
    """
    return await request.app[REPLACING].replace(
        body.files, body.pattern, body.new_value
    )


def _globs(text: str | None) -> tuple[str, ...]:
    return tuple(filter(None, (text or "").split(",")))


async def _answer(
    request: web.Request, kind: str, path: str, pattern: str, options: Options
) -> web.StreamResponse:
    search = await request.app[SEARCHES].prepare(
        kind, path, pattern, options, lambda: request.transport is None
    )
    async with search as found:
        response = web.StreamResponse(headers=_headers(found))
        await response.prepare(request)
        async for piece in found.body:
            await response.write(piece)
        await response.write_eof()
    return response


def _headers(found: Found) -> dict[str, str]:
    headers = {
        "Content-Type": JSON_TYPE,
        "Content-Length": str(found.size_bytes),
        COUNT_HEADER: str(found.count),
        ENGINE_HEADER: found.engine,
    }
    if found.cut:
        headers[CUT_HEADER] = found.cut
    if found.cursor:
        headers[CURSOR_HEADER] = found.cursor
    if found.cut_lines:
        headers[CUT_LINES_HEADER] = str(found.cut_lines)
    return headers
