"""What is wrong with a document, by the word of TypeScript before version 7.

`typescript-language-server` cannot be asked for that, and keeps silent when a text without
faults is followed by another. But it hands questions on to the `tsserver` behind it, which
can be asked, and answers about the text as it is.
"""

from agent.errors import InvalidRequestError
from agent.lsp.messages import plain
from agent.lsp.quirks import TSSERVER
from agent.lsp.results import whole
from agent.lsp.server import LanguageServer

QUESTIONS = (
    "syntacticDiagnosticsSync",
    "semanticDiagnosticsSync",
    "suggestionDiagnosticsSync",
)
SEVERITIES = {"error": 1, "warning": 2, "message": 3, "suggestion": 4}


async def diagnostics(server: LanguageServer, path: str) -> list[object]:
    """Return what is wrong with an open document, as LSP would tell it.

    Raises:
        AgentError: As `LanguageServer.ask`.
    """
    found: list[object] = []
    for question in QUESTIONS:
        params = {"command": TSSERVER, "arguments": [question, {"file": path}]}
        answer = plain(await server.ask("workspace/executeCommand", params))
        told = answer.get("body") if isinstance(answer, dict) else None
        if not isinstance(told, list):
            words = answer.get("message") if isinstance(answer, dict) else None
            raise InvalidRequestError(f"tsserver did not answer {question}: {words}")
        found += [_told(each) for each in told if isinstance(each, dict)]
    return found


def _told(given: dict[str, object]) -> dict[str, object]:
    return {
        "range": {end: _position(given.get(end)) for end in ("start", "end")},
        "severity": SEVERITIES.get(str(given.get("category")), 1),
        "message": given.get("text"),
        "code": given.get("code"),
        "source": "typescript",
    }


def _position(given: object) -> dict[str, int]:
    """Return a place, which tsserver counts from one."""
    told = given if isinstance(given, dict) else {}
    line, offset = whole(told.get("line")) or 1, whole(told.get("offset")) or 1
    return {"line": line - 1, "character": offset - 1}
