"""The routes for editors, beyond the published API."""

from collections.abc import AsyncIterator

from aiohttp import web

from agent.errors import TooManyError
from agent.files.edits.registry import Edits
from agent.lsp.editor import actions, diagnostics, questions
from agent.lsp.editor.bridge import BRIDGES_MAX, Bridge
from agent.lsp.editor.models import (
    CallHierarchy,
    ChangeRequest,
    CodeActionRequest,
    CodeActions,
    Diagnostics,
    DocumentVersion,
    FormattingRequest,
    Hover,
    LspStatus,
    PositionRequest,
    ReferencesRequest,
    RenameRequest,
    SignatureHelp,
    WorkspaceEdit,
)
from agent.lsp.editor.status import status
from agent.lsp.models import Location, LspDocumentRequest, LspServerRequest
from agent.lsp.registry import LanguageServers, Subject
from agent.lsp.routes import LANGUAGE_SERVERS, attended
from agent.registry import SETTINGS, WORK_DIR
from agent.web.duplex import Door
from agent.web.routes import Routes
from agent.web.websockets import MESSAGE_BYTES

routes = Routes("lsp")

EDITS = web.AppKey("language_server_edits", Edits)
BRIDGES = web.AppKey("language_server_bridges", set[Bridge])
ERRORS = (400, 408, 413, 500)
EDIT_ERRORS = (*ERRORS, 403, 404, 409, 507)


async def context(app: web.Application) -> AsyncIterator[None]:
    """Open what the routes work with, and close it."""
    # It shares its journal with the files room's, whose lock both hold.
    edits = Edits(app[WORK_DIR], app[SETTINGS].state_dir)
    app[EDITS] = edits
    app[BRIDGES] = set()
    yield
    await edits.aclose()


def servers_of(request: web.Request) -> LanguageServers:
    """Return the owner of the servers."""
    return request.app[LANGUAGE_SERVERS]


async def subject_of(request: web.Request, body: LspDocumentRequest) -> Subject:
    """Return the document that a body names."""
    return await servers_of(request).subject(
        body.language_id, body.path_to_project, body.uri
    )


@routes.get("/lsp/status")
async def language_server_status(request: web.Request) -> LspStatus:
    """Tell of all language servers, with the memory of their processes."""
    return await status(servers_of(request))


@routes.post("/lsp/did-change", errors=ERRORS)
async def change_document(request: web.Request, body: ChangeRequest) -> DocumentVersion:
    """Give the server a text that is not on the disk.

    It stands until `did-open`, which goes back to the disk, or `did-close`.
    """
    subject = await subject_of(request, body)
    version = await subject.server.set_text(subject.path, subject.language, body.text)
    return DocumentVersion(version=version)


@routes.post("/lsp/hover", errors=ERRORS)
async def hover(request: web.Request, body: PositionRequest) -> Hover:
    """Tell what there is to know of a place."""
    subject = await subject_of(request, body)
    return await attended(request, questions.hover(subject, body.position))


@routes.post("/lsp/definition", errors=ERRORS)
async def definition(request: web.Request, body: PositionRequest) -> list[Location]:
    """Tell where what stands at a place is defined."""
    subject = await subject_of(request, body)
    question = questions.places(subject, "definition", body.position)
    return await attended(request, question)


@routes.post("/lsp/type-definition", errors=ERRORS)
async def type_definition(
    request: web.Request, body: PositionRequest
) -> list[Location]:
    """Tell where the type of what stands at a place is defined."""
    subject = await subject_of(request, body)
    question = questions.places(subject, "typeDefinition", body.position)
    return await attended(request, question)


@routes.post("/lsp/implementation", errors=ERRORS)
async def implementation(request: web.Request, body: PositionRequest) -> list[Location]:
    """Tell where what stands at a place is implemented."""
    subject = await subject_of(request, body)
    question = questions.places(subject, "implementation", body.position)
    return await attended(request, question)


@routes.post("/lsp/references", errors=ERRORS)
async def references(request: web.Request, body: ReferencesRequest) -> list[Location]:
    """Tell where what stands at a place is used."""
    subject = await subject_of(request, body)
    context = {"includeDeclaration": body.include_declaration}
    question = questions.places(subject, "references", body.position, context=context)
    return await attended(request, question)


@routes.post("/lsp/signature-help", errors=ERRORS)
async def signature_help(request: web.Request, body: PositionRequest) -> SignatureHelp:
    """Tell how what is called at a place can be called."""
    subject = await subject_of(request, body)
    return await attended(request, questions.signature_help(subject, body.position))


@routes.post("/lsp/call-hierarchy", errors=ERRORS)
async def call_hierarchy(request: web.Request, body: PositionRequest) -> CallHierarchy:
    """Tell who calls the function at a place, and whom it calls."""
    subject = await subject_of(request, body)
    return await attended(request, questions.call_hierarchy(subject, body.position))


@routes.post("/lsp/diagnostics", errors=ERRORS)
async def document_diagnostics(
    request: web.Request, body: LspDocumentRequest
) -> Diagnostics:
    """Tell what is wrong with a document, as it is on the disk now.

    A server that cannot be asked is waited for, at most 10 s; then `isFresh` is false.
    """
    subject = await subject_of(request, body)
    return await attended(request, diagnostics.document_diagnostics(subject))


@routes.post("/lsp/semantic", errors=ERRORS)
async def workspace_diagnostics(
    request: web.Request, body: LspServerRequest
) -> Diagnostics:
    """Tell what is wrong with a whole project.

    Its files are looked at one by one for at most 25 s: 2000 of them, or 200 where the
    server cannot be asked and has to be waited for. `isFresh` is false if there are more.
    """
    server = await servers_of(request).find(body.language_id, body.path_to_project)
    question = diagnostics.workspace_diagnostics(server, body.language_id)
    return await attended(request, question)


@routes.post("/lsp/rename", errors=EDIT_ERRORS)
async def rename(request: web.Request, body: RenameRequest) -> WorkspaceEdit:
    """Propose the edit that renames what stands at a place, or make it.

    With `apply` all files are edited or none; the answer has their diffs, the id by which
    `/files/edit/{id}/undo` takes it back, and what came and went of diagnostics.
    """
    subject = await subject_of(request, body)
    return await actions.rename(subject, body, request.app[EDITS])


@routes.post("/lsp/formatting", errors=EDIT_ERRORS)
async def formatting(request: web.Request, body: FormattingRequest) -> WorkspaceEdit:
    """Propose the edit that formats a document, or make it (`apply`, as for `rename`)."""
    subject = await subject_of(request, body)
    return await actions.formatting(subject, body, request.app[EDITS])


@routes.post("/lsp/code-actions", errors=EDIT_ERRORS)
async def code_actions(request: web.Request, body: CodeActionRequest) -> CodeActions:
    """Tell what the server can do at a range, or do what `title` names (`apply`)."""
    subject = await subject_of(request, body)
    return await actions.code_actions(subject, body, request.app[EDITS])


@routes.get("/lsp/connect", errors=(400, 429, 500), websocket="only")
async def connect(
    request: web.Request, language_id: str, path_to_project: str
) -> web.StreamResponse:
    """Connect an editor to a language server of its own, over a websocket.

    Each message is one JSON-RPC text, without headers. The server ends with the
    connection.
    """
    servers, bridges = servers_of(request), request.app[BRIDGES]
    if len(bridges) >= BRIDGES_MAX:
        raise TooManyError(f"more than {BRIDGES_MAX} editors are connected")
    project = await servers.directory(path_to_project)
    async with Door(request, MESSAGE_BYTES) as door:
        bridge = await Bridge.open(servers, language_id, project)
        bridges.add(bridge)
        try:
            await bridge.run(await door.open())
        finally:
            bridges.discard(bridge)
            await bridge.aclose()
        return door.response
