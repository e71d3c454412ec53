"""The questions of the published API."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import msgspec

from agent.errors import AgentError
from agent.files.threads import Threads
from agent.lsp.client import RefusedError
from agent.lsp.messages import UnreadableError, plain
from agent.lsp.models import CompletionList, LspCompletionParams, LspSymbol
from agent.lsp.registry import Subject
from agent.lsp.results import completion_list, symbols
from agent.lsp.server import LanguageServer
from agent.lsp.sources import first_source
from agent.wire import encode

T = TypeVar("T")

IN_THREAD_BYTES = 64 * 1024
"""Answers from here on are decoded and mapped away from the loop."""
WARM_UP_PAUSE_S = 0.6
"""Servers that index answer nothing at first; they are asked once more after this."""
WARM_UP_S = 10.0


async def mapped(
    threads: Threads, raw: msgspec.Raw, function: Callable[[object], T]
) -> T:
    """Return what a function makes of an answer; a long one in a thread.

    Raises:
        AgentError: It is no JSON.
    """
    try:
        if len(bytes(raw)) < IN_THREAD_BYTES:
            return function(plain(raw))
        return await threads.run(lambda: function(plain(raw)))
    except UnreadableError as error:
        raise AgentError(f"the language server is broken: {error}") from error


async def complete(subject: Subject, asked: LspCompletionParams) -> bytes:
    """Return the completions at a place, encoded.

    Raises:
        AgentError: As `LanguageServer.ask_of`.
    """
    params: dict[str, object] = {"position": asked.position.plain()}
    if asked.context is not None:
        params["context"] = asked.context.plain()
    server = subject.server
    raw = await server.ask_of(
        "textDocument/completion", subject.path, subject.language, params
    )

    def answer(given: object) -> bytes:
        found: CompletionList = completion_list(given)
        return encode(found)

    return await mapped(server.ground.threads, raw, answer)


async def document_symbols(subject: Subject) -> list[LspSymbol]:
    """Return what a document defines.

    Raises:
        AgentError: As `LanguageServer.ask_of`.
    """
    server = subject.server
    raw = await server.ask_of(
        "textDocument/documentSymbol", subject.path, subject.language, {}
    )
    return await mapped(
        server.ground.threads, raw, lambda given: symbols(given, subject.uri)
    )


async def workspace_symbols(server: LanguageServer, query: str) -> list[LspSymbol]:
    """Return what a project defines under names like a query.

    Raises:
        AgentError: As `LanguageServer.ask`.
    """
    await server.current()
    found: list[LspSymbol] = []
    if server.offers("workspaceSymbolProvider"):
        if server.family.name == "typescript":
            await _introduce(server)
        found = await _asked_for(server, query)
        if not found and server.age_s < WARM_UP_S:
            await asyncio.sleep(WARM_UP_PAUSE_S)
            found = await _asked_for(server, query)
    if not found and server.index is not None:
        raw = await server.index.ask(query, server.disk)
        found = await mapped(server.ground.threads, raw, _indexed)
    return found


def _indexed(given: object) -> list[LspSymbol]:
    return symbols(given.get("symbols") if isinstance(given, dict) else None)


async def _asked_for(server: LanguageServer, query: str) -> list[LspSymbol]:
    raw = await server.ask("workspace/symbol", {"query": query})
    return await mapped(server.ground.threads, raw, symbols)


async def _introduce(server: LanguageServer) -> None:
    """Open one of the project's files, without which TypeScript knows no project."""
    if len(server.documents):
        return
    suffixes = tuple(server.family.suffixes)
    path = await server.ground.threads.run(first_source, server.project.path, suffixes)
    if path is not None:
        try:
            await server.open(path, server.family.name, asked=False)
        except RefusedError:
            return
