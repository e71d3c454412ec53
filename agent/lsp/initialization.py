"""What a server is told at its start, and what it is answered when it asks.

The capabilities are few on purpose: what is not offered need not be mapped. Positions
stay UTF-16, symbols flat and completions free of snippets (contract 40 §8).
"""

import os
from collections.abc import Mapping

from agent.lsp.client import Answer
from agent.lsp.configuration import Choice
from agent.lsp.places import Project, uri_of
from agent.lsp.quirks import OPTIONS
from agent.version import VERSION

_KINDS = list(range(1, 27))
_FORMATS = ["markdown", "plaintext"]

CAPABILITIES: dict[str, object] = {
    "workspace": {
        "configuration": True,
        "workspaceFolders": True,
        "didChangeConfiguration": {"dynamicRegistration": False},
        # Told of all files that may count, whatever they register for.
        "didChangeWatchedFiles": {
            "dynamicRegistration": True,
            "relativePatternSupport": True,
        },
        "symbol": {"symbolKind": {"valueSet": _KINDS}},
        "workspaceEdit": {
            "documentChanges": True,
            "resourceOperations": ["create", "rename", "delete"],
        },
        "diagnostics": {"refreshSupport": False},
    },
    "textDocument": {
        "synchronization": {"didSave": True},
        "publishDiagnostics": {"versionSupport": True, "relatedInformation": True},
        "diagnostic": {"dynamicRegistration": False},
        "completion": {
            "contextSupport": True,
            "completionItem": {
                "snippetSupport": False,
                "documentationFormat": _FORMATS,
                "deprecatedSupport": True,
            },
        },
        "documentSymbol": {
            "hierarchicalDocumentSymbolSupport": False,
            "symbolKind": {"valueSet": _KINDS},
        },
        "hover": {"contentFormat": _FORMATS},
        "definition": {"linkSupport": False},
        "typeDefinition": {"linkSupport": False},
        "implementation": {"linkSupport": False},
        "references": {},
        "signatureHelp": {
            "signatureInformation": {
                "documentationFormat": _FORMATS,
                "parameterInformation": {"labelOffsetSupport": False},
            }
        },
        "rename": {"prepareSupport": False},
        "formatting": {},
        "callHierarchy": {},
        "codeAction": {
            "codeActionLiteralSupport": {
                "codeActionKind": {"valueSet": ["quickfix", "refactor", "source"]}
            },
            "resolveSupport": {"properties": ["edit"]},
            "dataSupport": True,
        },
    },
    "window": {"workDoneProgress": False, "showMessage": {}},
    "general": {"positionEncodings": ["utf-16"]},
}


def initialize_params(
    project: Project, server: str, venv: str | None, options: dict[str, object]
) -> dict[str, object]:
    """Return the parameters of `initialize`."""
    merged = dict(OPTIONS.get(server, {}))
    if venv and server == "jedi-language-server":
        merged["workspace"] = {"environmentPath": os.path.join(venv, "bin", "python")}
    merged |= options
    return {
        "processId": os.getpid(),
        "clientInfo": {"name": "toolbox-agent", "version": VERSION},
        "rootUri": uri_of(project.path),
        "rootPath": project.path,
        "workspaceFolders": [_folder(project)],
        "capabilities": CAPABILITIES,
        **({"initializationOptions": merged} if merged else {}),
    }


def settings_of(server: str, venv: str | None, choice: Choice) -> dict[str, object]:
    """Return what a server is told when it asks for its configuration, by section."""
    found: dict[str, object] = {}
    if venv:
        python = os.path.join(venv, "bin", "python")
        if server in {"pyright", "basedpyright"}:
            found["python"] = {"pythonPath": python}
        elif server == "pylsp":
            found["pylsp"] = {"plugins": {"jedi": {"environment": python}}}
    return _merged(found, choice.settings)


def _merged(ours: dict[str, object], theirs: Mapping[str, object]) -> dict[str, object]:
    """Return settings with somebody's own over them, section by section."""
    found = dict(ours)
    for name, value in theirs.items():
        old = found.get(name)
        both = isinstance(old, dict) and isinstance(value, dict)
        found[name] = _merged(old, value) if both else value  # type: ignore[arg-type] # as asked
    return found


def answers(project: Project, settings: dict[str, object]) -> dict[str, Answer]:
    """Return what a server's own requests are answered, by method."""

    def configuration(params: object) -> object:
        items = params.get("items") if isinstance(params, dict) else None
        return [_section(each, settings) for each in items or []]

    def nothing(_params: object) -> object:
        return None

    return {
        "workspace/configuration": configuration,
        "workspace/workspaceFolders": lambda _: [_folder(project)],
        "workspace/applyEdit": lambda _: {"applied": False},
        "workspace/diagnostic/refresh": nothing,
        "workspace/inlayHint/refresh": nothing,
        "workspace/semanticTokens/refresh": nothing,
        "workspace/codeLens/refresh": nothing,
        "client/registerCapability": nothing,
        "client/unregisterCapability": nothing,
        "window/workDoneProgress/create": nothing,
        "window/showMessageRequest": nothing,
    }


def _section(item: object, settings: dict[str, object]) -> object:
    """Return one section's settings; null, which all servers take, for none.

    `python.analysis` is that name, or `analysis` within `python`.
    """
    section = item.get("section") if isinstance(item, dict) else None
    if not section:
        return settings or None
    name = str(section)
    if name in settings:
        return settings[name]
    found: object = settings
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _folder(project: Project) -> dict[str, object]:
    name = os.path.basename(project.path) or project.path
    return {"uri": uri_of(project.path), "name": name}
