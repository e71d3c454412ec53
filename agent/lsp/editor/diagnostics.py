"""What is wrong with documents: asked for where a server can be, else waited for."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable

from agent.errors import InvalidRequestError
from agent.lsp.editor import tsserver
from agent.lsp.editor.models import Diagnostic, Diagnostics, DiagnosticsChange
from agent.lsp.messages import plain
from agent.lsp.quirks import hands_on
from agent.lsp.registry import Subject
from agent.lsp.results import range_of, whole
from agent.lsp.server import LanguageServer
from agent.lsp.sources import sources_of
from agent.wire import printable

PUBLISH_LIMIT_S = 10.0
"""For the first word of a server that only tells of its own accord."""
ERROR = 1
SEVERITIES = range(1, 5)
PULLED_MAX = 2000
"""Files looked at of a server that can be asked; the answer says when there are more."""
PUSHED_MAX = 200
"""The same, of one that has to be waited for."""
WORKSPACE_LIMIT_S = 25.0


async def document_diagnostics(
    subject: Subject, limit_s: float = PUBLISH_LIMIT_S
) -> Diagnostics:
    """Return what is wrong with one document, as it is on the disk now.

    Raises:
        AgentError: As `LanguageServer.ask_of`.
    """
    server = subject.server
    document = await server.open(subject.path, subject.language, asked=False)
    await server.documents.touch(await server.ready(), subject.path)
    if server.offers("diagnosticProvider"):
        raw = await server.ask_of(
            "textDocument/diagnostic", subject.path, subject.language, {}
        )
        report = plain(raw)
        items = report.get("items") if isinstance(report, dict) else None
        return Diagnostics(items=diagnostics_of(items, subject.uri), is_fresh=True)
    if hands_on(server.capabilities):
        items = await tsserver.diagnostics(server, subject.path)
        return Diagnostics(items=diagnostics_of(items, subject.uri), is_fresh=True)
    told = await server.published.newer(
        subject.path, document.version, document.mark, limit_s
    )
    is_fresh = told is not None
    told = told or server.published.get(subject.path)
    items = [] if told is None else told.items
    return Diagnostics(items=diagnostics_of(items, subject.uri), is_fresh=is_fresh)


async def workspace_diagnostics(server: LanguageServer, language: str) -> Diagnostics:
    """Return what is wrong with a whole project, file by file.

    Never by `workspace/diagnostic`, which servers may leave unanswered until something
    changes (LSP 3.17), and some do when they were set up for open files only.

    Raises:
        AgentError: As `LanguageServer.ask_of`.
    """
    await server.current()
    most = PULLED_MAX if server.offers("diagnosticProvider") else PUSHED_MAX
    paths = await server.ground.threads.run(
        sources_of, server.project.path, tuple(server.family.suffixes)
    )
    until = time.monotonic() + WORKSPACE_LIMIT_S
    found: list[Diagnostic] = []
    is_fresh = len(paths) <= most
    for path in paths[:most]:
        left_s = until - time.monotonic()
        if left_s <= 0:
            return Diagnostics(items=found, is_fresh=False)
        subject = Subject(server, path, language)
        try:
            told = await document_diagnostics(subject, min(left_s, PUBLISH_LIMIT_S))
        except InvalidRequestError:
            # Removed since, or no text.
            continue
        found += told.items
        is_fresh = is_fresh and told.is_fresh
    return Diagnostics(items=found, is_fresh=is_fresh)


def diagnostics_of(given: object, uri: str) -> list[Diagnostic]:
    """Return a server's diagnostics in a strict shape."""
    found = []
    for each in given if isinstance(given, list) else []:
        if not isinstance(each, dict):
            continue
        where = range_of(each.get("range"))
        message = each.get("message")
        if where is None or not isinstance(message, str):
            continue
        severity = whole(each.get("severity"))
        code, source = each.get("code"), each.get("source")
        found.append(
            Diagnostic(
                uri=printable(uri),
                range=where,
                severity=severity if severity in SEVERITIES and severity else ERROR,
                message=message,
                code=None if code is None else str(code),
                source=source if isinstance(source, str) else None,
            )
        )
    return found


async def of_paths(
    server: LanguageServer, paths: Iterable[str], language: str
) -> Diagnostics:
    """Return what is wrong with some documents; those that are not there are fine."""

    async def one(path: str) -> Diagnostics:
        try:
            return await document_diagnostics(Subject(server, path, language))
        except InvalidRequestError:
            # It is not there, which is what was wanted when it was moved.
            return Diagnostics(items=[], is_fresh=True)

    told = await asyncio.gather(*map(one, paths))
    return Diagnostics(
        items=[each for one in told for each in one.items],
        is_fresh=all(each.is_fresh for each in told),
    )


def change_between(before: Diagnostics, after: Diagnostics) -> DiagnosticsChange:
    """Return what came and what went, wherever in its file it stands now."""
    old = Counter(map(_identity, before.items))
    new = Counter(map(_identity, after.items))
    return DiagnosticsChange(
        added=_surplus(after.items, new - old),
        removed=_surplus(before.items, old - new),
        is_fresh=before.is_fresh and after.is_fresh,
    )


def _identity(each: Diagnostic) -> tuple[object, ...]:
    return each.uri, each.severity, each.code, each.message


def _surplus(
    items: list[Diagnostic], count: "Counter[tuple[object, ...]]"
) -> list[Diagnostic]:
    found = []
    for each in items:
        if count[_identity(each)] > 0:
            count[_identity(each)] -= 1
            found.append(each)
    return found
