"""Edits of several files, as servers propose them, and their making.

A server counts in UTF-16 code units of the text that it was given. So an edit is made only
while the files still hold that text: each is written by the files room's own edits, all
or none, with the hash of what it was computed from.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.errors import ConflictError, InvalidRequestError
from agent.files.edits.models import (
    DeleteEdit,
    Edit,
    EditRequest,
    MoveEdit,
    WriteEdit,
)
from agent.files.edits.registry import Edits
from agent.files.hashes import sha256_of
from agent.lsp.editor.diagnostics import change_between, of_paths
from agent.lsp.editor.models import FileEdit, TextEdit, WorkspaceEdit
from agent.lsp.places import canonical, path_of
from agent.lsp.results import range_of
from agent.lsp.server import LanguageServer

DIAGNOSED_MAX = 20
"""Documents whose diagnostics are compared before and after."""
FILE_MAX_BYTES = 8 * 1024 * 1024
_LINE_END = re.compile(r"\r\n|\n|\r")
_OPERATIONS = frozenset({"create", "rename", "delete"})


def changes_of(given: object) -> list[FileEdit]:
    """Return a server's workspace edit, in its order.

    Raises:
        InvalidRequestError: It holds what cannot be made sense of.
    """
    if not isinstance(given, dict):
        return []
    listed = given.get("documentChanges")
    if isinstance(listed, list):
        return [_change(each) for each in listed]
    changes = given.get("changes")
    pairs = changes.items() if isinstance(changes, dict) else ()
    return [
        FileEdit(kind="edit", uri=canonical(str(uri)), edits=text_edits(edits))
        for uri, edits in pairs
    ]


def _change(given: object) -> FileEdit:
    if isinstance(given, dict):
        document = given.get("textDocument")
        kind = given.get("kind")
        if isinstance(document, dict):
            uri = canonical(str(document.get("uri")))
            return FileEdit(kind="edit", uri=uri, edits=text_edits(given.get("edits")))
        if kind == "rename":
            return FileEdit(
                kind="rename",
                uri=canonical(str(given.get("oldUri"))),
                new_uri=canonical(str(given.get("newUri"))),
            )
        if kind in _OPERATIONS:
            return FileEdit(kind=str(kind), uri=canonical(str(given.get("uri"))))
    raise InvalidRequestError("the language server proposed an edit of unknown form")


def text_edits(given: object) -> list[TextEdit]:
    """Return edits of one text.

    Raises:
        InvalidRequestError: One is none.
    """
    found = []
    for each in given if isinstance(given, list) else []:
        where = range_of(each.get("range")) if isinstance(each, dict) else None
        if where is None or not isinstance(each.get("newText"), str):
            raise InvalidRequestError(
                "the language server proposed an edit of unknown form"
            )
        found.append(TextEdit(range=where, new_text=each["newText"]))
    return found


def edited(text: str, edits: Iterable[TextEdit]) -> str:
    """Return a text after edits, all of which are about the text before.

    Raises:
        InvalidRequestError: Two of them overlap.
    """
    starts = [0, *(match.end() for match in _LINE_END.finditer(text))]
    spans = sorted(
        (
            (
                _offset(
                    text, starts, each.range.start.line, each.range.start.character
                ),
                _offset(text, starts, each.range.end.line, each.range.end.character),
                number,
                each.new_text,
            )
            for number, each in enumerate(edits)
        ),
        # Of several at one place the first given comes first.
        key=lambda span: span[:3],
    )
    parts, at = [], 0
    for start, end, _, new in spans:
        if start < at or end < start:
            raise InvalidRequestError("the language server proposed edits that overlap")
        parts += [text[at:start], new]
        at = end
    return "".join([*parts, text[at:]])


def _offset(text: str, starts: list[int], line: int, character: int) -> int:
    """Return where in a text a place is; beyond its line's end: there (LSP 3.17)."""
    if line >= len(starts):
        return len(text)
    start = starts[line]
    end = starts[line + 1] if line + 1 < len(starts) else len(text)
    content = text[start:end].rstrip("\r\n")
    if content.isascii():
        return start + min(character, len(content))
    before = content.encode("utf-16-le", "surrogatepass")[: 2 * character]
    return start + len(before.decode("utf-16-le", "ignore"))


@dataclass
class Plan:
    """What is to be done to files; made by `plan`.

    Attributes:
        edits: In the terms of the files room.
        before: The documents that it concerns, as they are called now.
        after: And then.
    """

    edits: list[Edit] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    _texts: dict[str, str] = field(default_factory=dict)

    def take(self, change: FileEdit) -> None:
        """Add a change, which is about the files as those before it leave them."""
        path = _path(change.uri)
        match change.kind:
            case "rename":
                self._rename(path, _path(change.new_uri or ""))
            case "delete":
                self.edits.append(DeleteEdit(path=path))
                self._leave(path)
            case "create":
                self._create(path)
            case _:
                self._edit(path, change.edits)

    def _rename(self, path: str, target: str) -> None:
        known = self._texts.pop(path, None)
        self._texts[target] = _text(path)[0] if known is None else known
        self.edits.append(MoveEdit(path=path, destination=target))
        self._leave(path)
        self.after.append(target)

    def _leave(self, path: str) -> None:
        self._texts.pop(path, None)
        if path in self.after:
            self.after.remove(path)
        elif path not in self.before:
            self.before.append(path)

    def _create(self, path: str) -> None:
        if not os.path.lexists(path):
            self.edits.append(WriteEdit(path=path, content=""))
            self._texts[path] = ""
            self.after.append(path)

    def _edit(self, path: str, edits: list[TextEdit]) -> None:
        sha256 = None
        if path not in self._texts:
            self._texts[path], sha256 = _text(path)
            self.before.append(path)
            self.after.append(path)
        text = self._texts[path] = edited(self._texts[path], edits)
        self.edits.append(WriteEdit(path=path, content=text, sha256=sha256))


def plan(changes: list[FileEdit]) -> Plan:
    """Return what makes a workspace edit true; reads the files, so it blocks.

    Raises:
        InvalidRequestError: It is about something that is no file, or no UTF-8.
        OSError: A file cannot be read.
    """
    found = Plan()
    for each in changes:
        found.take(each)
    return found


def _path(uri: str) -> str:
    path = path_of(uri)
    if path is None:
        raise InvalidRequestError(f"the edit is about something that is no file: {uri}")
    return path


def _text(path: str) -> tuple[str, str]:
    with open(path, "rb") as file:
        content = file.read(FILE_MAX_BYTES + 1)
    try:
        return content.decode(), sha256_of(content)
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"not UTF-8, so not edited: {path}") from error


async def propose(
    server: LanguageServer,
    changes: list[FileEdit],
    *,
    apply: bool,
    edits: Edits,
    language: str,
) -> WorkspaceEdit:
    """Return an edit as it is proposed or, applied, with all that came of it.

    Raises:
        ConflictError: A file is not what the server was told, or was changed meanwhile.
        AgentError: It cannot be made; nothing was changed.
    """
    if not apply or not changes:
        return WorkspaceEdit(changes=changes, applied=apply)
    planned = await server.ground.threads.run(plan, changes)
    for each in planned.before:
        document = server.documents.get(each)
        if document is not None and document.stamp is None:
            raise ConflictError(
                f"the language server has a text that is not on the disk: {each}"
            )
    before = await of_paths(server, planned.before[:DIAGNOSED_MAX], language)
    made = await edits.edit(EditRequest(edits=planned.edits))
    after = await of_paths(server, planned.after[:DIAGNOSED_MAX], language)
    change = change_between(before, after)
    return WorkspaceEdit(
        changes=changes,
        applied=True,
        id=made.id,
        files=made.files,
        diagnostics=change,
    )
