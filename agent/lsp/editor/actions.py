"""Renames, formatting and code actions: what a server proposes to change."""

from agent.errors import InvalidRequestError
from agent.files.edits.registry import Edits
from agent.lsp.editor.edits import changes_of, propose, text_edits
from agent.lsp.editor.models import (
    CodeAction,
    CodeActionRequest,
    CodeActions,
    FileEdit,
    FormattingRequest,
    RenameRequest,
    WorkspaceEdit,
)
from agent.lsp.editor.questions import ask_at
from agent.lsp.messages import plain
from agent.lsp.registry import Subject

ACTIONS_MAX = 200
"""Of one range; of more, the first."""
RESOLVED_MAX = 20
"""Actions whose edit is asked for one by one."""


async def rename(subject: Subject, asked: RenameRequest, edits: Edits) -> WorkspaceEdit:
    """Return the edit that renames what stands at a place.

    Raises:
        AgentError: It cannot be renamed, or not be applied.
    """
    given = await ask_at(subject, "rename", asked.position, newName=asked.new_name)
    return await propose(
        subject.server,
        changes_of(given),
        apply=asked.apply,
        edits=edits,
        language=subject.language,
    )


async def formatting(
    subject: Subject, asked: FormattingRequest, edits: Edits
) -> WorkspaceEdit:
    """Return the edit that formats a document.

    Raises:
        AgentError: It cannot be formatted, or not be applied.
    """
    options = {"tabSize": asked.tab_size, "insertSpaces": asked.insert_spaces}
    raw = await subject.server.ask_of(
        "textDocument/formatting", subject.path, subject.language, {"options": options}
    )
    found = text_edits(plain(raw))
    changes = [FileEdit(kind="edit", uri=subject.uri, edits=found)] if found else []
    return await propose(
        subject.server,
        changes,
        apply=asked.apply,
        edits=edits,
        language=subject.language,
    )


async def code_actions(
    subject: Subject, asked: CodeActionRequest, edits: Edits
) -> CodeActions:
    """Return what can be done at a range; with `apply`, do what `title` names.

    Raises:
        InvalidRequestError: There is no such action, or it has no edit.
        AgentError: It cannot be applied.
    """
    if asked.apply and asked.title is None:
        raise InvalidRequestError("apply needs the title of an action")
    known = subject.server.published.get(subject.path)
    context: dict[str, object] = {"diagnostics": known.items if known else []}
    if asked.only:
        context["only"] = asked.only
    span = {"start": asked.range.start.plain(), "end": asked.range.end.plain()}
    raw = await subject.server.ask_of(
        "textDocument/codeAction",
        subject.path,
        subject.language,
        {"range": span, "context": context},
    )
    given = plain(raw)
    listed = [each for each in given if isinstance(each, dict)] if given else []  # type: ignore[attr-defined] # a list, if anything
    if asked.title is not None:
        listed = [each for each in listed if each.get("title") == asked.title][:1]
        if not listed:
            raise InvalidRequestError(f"there is no action titled {asked.title!r}")
    actions = [
        await _action(subject, each, asked, edits, resolve=number < RESOLVED_MAX)
        for number, each in enumerate(listed[:ACTIONS_MAX])
    ]
    return CodeActions(actions=actions)


async def _action(
    subject: Subject,
    given: dict[str, object],
    asked: CodeActionRequest,
    edits: Edits,
    *,
    resolve: bool,
) -> CodeAction:
    edit = given.get("edit")
    if edit is None and resolve and "data" in given and _resolves(subject):
        resolved = plain(await subject.server.ask("codeAction/resolve", given))
        edit = resolved.get("edit") if isinstance(resolved, dict) else None
    if edit is None and asked.apply:
        raise InvalidRequestError("the action has no edit that could be applied")
    kind = given.get("kind")
    return CodeAction(
        title=str(given.get("title", "")),
        kind=kind if isinstance(kind, str) else None,
        is_preferred=given.get("isPreferred") is True,
        edit=None
        if edit is None
        else await propose(
            subject.server,
            changes_of(edit),
            apply=asked.apply,
            edits=edits,
            language=subject.language,
        ),
    )


def _resolves(subject: Subject) -> bool:
    provider = subject.server.capabilities.get("codeActionProvider")
    return isinstance(provider, dict) and provider.get("resolveProvider") is True
