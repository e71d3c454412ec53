"""What the routes for editors take and send."""

from typing import Annotated

import msgspec

from agent import wire
from agent.files.edits.models import EditedFile
from agent.lsp.models import (
    Location,
    LspDocumentRequest,
    LspPosition,
    Markup,
    Range,
    Text,
)


class PositionRequest(LspDocumentRequest, frozen=True, kw_only=True):
    """A place in a document."""

    position: LspPosition


class ReferencesRequest(PositionRequest, frozen=True, kw_only=True):
    """A place whose name is looked for everywhere."""

    include_declaration: bool = True


class ChangeRequest(LspDocumentRequest, frozen=True, kw_only=True):
    """A text that is not on the disk (yet)."""

    text: str


class DocumentVersion(wire.Model, frozen=True, kw_only=True):
    """Counts the texts of a document that its server was given."""

    version: int


class Hover(wire.Model, frozen=True, kw_only=True):
    """What there is to know of a place; no contents: nothing."""

    contents: Markup | None
    range: Range | None = None


class Parameter(wire.Model, frozen=True, kw_only=True):
    """A parameter of a signature."""

    label: str
    documentation: Markup | None = None


class Signature(wire.Model, frozen=True, kw_only=True):
    """One way to call something."""

    label: str
    documentation: Markup | None = None
    parameters: list[Parameter]


class SignatureHelp(wire.Model, frozen=True, kw_only=True):
    """The ways to call what is called at a place, and where in the call it is."""

    signatures: list[Signature]
    active_signature: int
    active_parameter: int


class CallItem(wire.Model, frozen=True, kw_only=True):
    """A function that calls or is called; `ranges` are where, in the caller."""

    name: str
    kind: int
    location: Location
    ranges: list[Range]


class CallHierarchy(wire.Model, frozen=True, kw_only=True):
    """Who calls the function at a place, and whom it calls."""

    name: str | None
    incoming: list[CallItem]
    outgoing: list[CallItem]


class LspRange(wire.Model, frozen=True, kw_only=True):
    """A range of a document, as it is asked for."""

    start: LspPosition
    end: LspPosition


class RenameRequest(PositionRequest, frozen=True, kw_only=True):
    """A new name for what stands at a place."""

    new_name: Text
    apply: bool = False


class FormattingRequest(LspDocumentRequest, frozen=True, kw_only=True):
    """How a document is to be formatted."""

    tab_size: Annotated[int, msgspec.Meta(ge=1, le=16)] = 4
    insert_spaces: bool = True
    apply: bool = False


class CodeActionRequest(LspDocumentRequest, frozen=True, kw_only=True):
    """A range for which actions are wanted; `title` names the one to apply."""

    range: LspRange
    only: list[str] = msgspec.field(default_factory=list)
    title: str | None = None
    apply: bool = False


class TextEdit(wire.Model, frozen=True, kw_only=True):
    """A range and what is to stand there."""

    range: Range
    new_text: str


class FileEdit(wire.Model, frozen=True, kw_only=True):
    """What is to become of one file: `edit`, `create`, `rename` or `delete`."""

    kind: str
    uri: str
    new_uri: str | None = None
    edits: list[TextEdit] = msgspec.field(default_factory=list)


class Diagnostic(wire.Model, frozen=True, kw_only=True):
    """Something wrong: severity 1 error, 2 warning, 3 information, 4 hint."""

    uri: str
    range: Range
    severity: int
    message: str
    code: str | None = None
    source: str | None = None


class Diagnostics(wire.Model, frozen=True, kw_only=True):
    """What is wrong; not fresh: the server has not looked at the newest text in time."""

    items: list[Diagnostic]
    is_fresh: bool


class DiagnosticsChange(wire.Model, frozen=True, kw_only=True):
    """What an edit made wrong, and what it mended."""

    added: list[Diagnostic]
    removed: list[Diagnostic]
    is_fresh: bool


class WorkspaceEdit(wire.Model, frozen=True, kw_only=True):
    """An edit of several files, and what came of it when it was applied."""

    changes: list[FileEdit]
    applied: bool = False
    id: str | None = None
    files: list[EditedFile] = msgspec.field(default_factory=list)
    diagnostics: DiagnosticsChange | None = None


class CodeAction(wire.Model, frozen=True, kw_only=True):
    """Something that a server can do; no edit: only by a command, which we do not run."""

    title: str
    kind: str | None = None
    is_preferred: bool = False
    edit: WorkspaceEdit | None = None


class CodeActions(wire.Model, frozen=True, kw_only=True):
    """What can be done at a range."""

    actions: list[CodeAction]


class ServerStatus(wire.Model, frozen=True, kw_only=True):
    """One language server; memory is that of all its processes, shares of shared pages."""

    family: str
    languages: list[str]
    server: str | None
    project: str
    state: str
    pid: int | None
    memory_bytes: int
    documents: int
    restarts: int
    last_error: str | None


class LspStatus(wire.Model, frozen=True, kw_only=True):
    """All language servers, those used last at the end."""

    servers: list[ServerStatus]
