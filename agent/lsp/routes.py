"""The routes of language servers that the published API has."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from aiohttp import web

from agent.errors import UnavailableError
from agent.lsp import queries
from agent.lsp.models import (
    CompletionList,
    LspCompletionParams,
    LspDocumentRequest,
    LspServerRequest,
    LspSymbol,
)
from agent.lsp.registry import LanguageServers
from agent.registry import KEEPER, SETTINGS, WORK_DIR
from agent.web.counts import GAUGES
from agent.web.routes import Encoded, Routes
from agent.web.server import told_of_the_end

routes = Routes("lsp")

LANGUAGE_SERVERS = web.AppKey("language_servers", LanguageServers)

T = TypeVar("T")


async def context(app: web.Application) -> AsyncIterator[None]:
    """Open what the routes work with; at the end, stop all servers."""
    servers = LanguageServers(app[KEEPER], app[WORK_DIR], app[SETTINGS].lsp_config)
    app[LANGUAGE_SERVERS] = servers
    app[GAUGES]["language_server"] = servers.__len__
    yield
    await servers.aclose()


async def attended(request: web.Request, question: Coroutine[Any, Any, T]) -> T:
    """Return the answer to a question, given up when the client leaves.

    Raises:
        ConnectionResetError: Nobody is to be answered any more.
        UnavailableError: The agent stops.
    """
    task = asyncio.ensure_future(question)

    def give_up() -> None:
        task.cancel()

    with told_of_the_end(request, give_up):
        try:
            return await task
        except asyncio.CancelledError:
            if not task.cancelled():
                # It is this request that was cancelled.
                task.cancel()
                raise
            if request.transport is None:
                raise ConnectionResetError("the client left") from None
            raise UnavailableError("the agent is shutting down") from None


@routes.post("/lsp/start", errors=(400, 500))
async def start_language_server(request: web.Request, body: LspServerRequest) -> None:
    """Start the language server of a project, and wait until it is ready.

    One server serves all languages of a family (TypeScript and JavaScript, say) in one
    project. One that runs is left alone; one that crashed too often is tried again.
    """
    await request.app[LANGUAGE_SERVERS].start(body.language_id, body.path_to_project)


@routes.post("/lsp/stop", errors=(400, 500))
async def stop_language_server(request: web.Request, body: LspServerRequest) -> None:
    """Stop the language server of a project; a success too when none runs."""
    await request.app[LANGUAGE_SERVERS].stop(body.language_id, body.path_to_project)


@routes.post("/lsp/did-open", errors=(400, 408, 413, 500))
async def open_document(request: web.Request, body: LspDocumentRequest) -> None:
    """Open a document, or bring an open one up to what is on the disk."""
    subject = await request.app[LANGUAGE_SERVERS].subject(
        body.language_id, body.path_to_project, body.uri
    )
    await subject.server.documents.follow_disk(subject.path)
    await subject.server.open(subject.path, subject.language, asked=True)


@routes.post("/lsp/did-close", errors=(400, 500))
async def close_document(request: web.Request, body: LspDocumentRequest) -> None:
    """Close a document; a success too when it is not open."""
    subject = await request.app[LANGUAGE_SERVERS].subject(
        body.language_id, body.path_to_project, body.uri
    )
    await subject.server.close(subject.path)


@routes.post("/lsp/completions", errors=(400, 408, 413, 500))
async def complete(
    request: web.Request, body: LspCompletionParams
) -> Encoded[CompletionList]:
    """Tell what could stand at a place of a document, as it is on the disk now.

    Lines and characters count from zero, characters in UTF-16 code units.
    """
    subject = await request.app[LANGUAGE_SERVERS].subject(
        body.language_id, body.path_to_project, body.uri
    )
    return Encoded(await attended(request, queries.complete(subject, body)))


@routes.get("/lsp/document-symbols", errors=(400, 408, 413, 500))
async def document_symbols(
    request: web.Request, language_id: str, path_to_project: str, uri: str
) -> list[LspSymbol]:
    """Tell what a document defines, as it is on the disk now."""
    subject = await request.app[LANGUAGE_SERVERS].subject(
        language_id, path_to_project, uri
    )
    return await attended(request, queries.document_symbols(subject))


@routes.get("/lsp/workspacesymbols", errors=(400, 408, 500))
async def workspace_symbols(
    request: web.Request, query: str, language_id: str, path_to_project: str
) -> list[LspSymbol]:
    """Tell what a project defines under names like `query`."""
    server = await request.app[LANGUAGE_SERVERS].find(language_id, path_to_project)
    return await attended(request, queries.workspace_symbols(server, query))


@routes.get("/lsp/workspace-symbols", errors=(400, 408, 500))
async def workspace_symbols_by_the_first_name(
    request: web.Request, query: str, language_id: str, path_to_project: str
) -> list[LspSymbol]:
    """Tell what a project defines under names like `query`, as `workspacesymbols`."""
    return await workspace_symbols(request, query, language_id, path_to_project)
