"""Real language servers, through the flow that all official clients try (contract 40 §4).

Each is installed once into the cache of the test environments, by name and version.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.environments import NODE, node_with, python_with
from tests.lsp.conftest import Desk, failure
from tests.support.agent import StartAgent
from tests.support.processes import alive, tree

pytestmark = [pytest.mark.clients, pytest.mark.timeout(280)]

PYTHON = "class Greeter:\n    def greet(self):\n        return 1\n\n\n"
PYTHON += "greeter = Greeter()\ngreeter."
TYPESCRIPT = "export class Greeter { greet(): number { return 1 } }\n"
TYPESCRIPT += "const greeter = new Greeter()\ngreeter."


@dataclass(frozen=True)
class Real:
    """A server, and where its program is."""

    name: str
    language: str
    directory: Callable[[], Path]

    @property
    def text(self) -> str:
        """A program whose last line is a syntax error."""
        return PYTHON if self.language == "python" else TYPESCRIPT

    @property
    def file(self) -> str:
        """What it is called."""
        return "sample.py" if self.language == "python" else "sample.ts"


SERVERS = [
    Real("ty", "python", lambda: python_with("ty", "0.0.104").parent),
    Real("pylsp", "python", lambda: python_with("python-lsp-server", "1.15.0").parent),
    Real(
        "basedpyright",
        "python",
        lambda: python_with("basedpyright", "1.40.2").parent,
    ),
    Real(
        "typescript-native",
        "typescript",
        lambda: node_with("typescript", "7.0.2") / "node_modules/.bin",
    ),
    Real(
        "typescript-language-server",
        "typescript",
        lambda: (
            node_with("typescript-language-server", "5.3.0", "typescript@5.9.3")
            / "node_modules/.bin"
        ),
    ),
]


@pytest.fixture(params=SERVERS, ids=lambda each: each.name)
def real(
    request: pytest.FixtureRequest, start_agent: StartAgent
) -> Iterator[tuple[Desk, Real]]:
    """Return a client of an agent that has one real server."""
    server: Real = request.param
    path = os.pathsep.join([str(server.directory()), str(NODE.parent), os.defpath])
    agent = start_agent(env={"PATH": path})
    (agent.work_dir / "proj").mkdir()
    yield Desk(agent, language=server.language), server
    agent.stop()


def test_the_official_flow_passes(  # noqa: PLR0915 - one flow
    real: tuple[Desk, Real],
) -> None:
    desk, server = real
    uri = desk.write(server.file, server.text)
    lines = server.text.splitlines()
    started = desk.post("start", 60)
    assert started.status == 200, started.body
    assert desk.post("did-open", uri=uri).status == 200

    def get(route: str, **query: str) -> list[str]:
        pairs = {"languageId": server.language, "pathToProject": "proj", **query}
        text = "&".join(f"{name}={value}" for name, value in pairs.items())
        answer = desk.agent.request("GET", f"/lsp/{route}?{text}", limit_s=60)
        assert answer.status == 200, answer.body
        assert all(
            each["location"]["uri"] == (desk.root / server.file).as_uri()
            for each in answer.json()
        )
        return [each["name"] for each in answer.json()]

    assert "Greeter" in get("document-symbols", uri=uri)
    assert "Greeter" in get("workspacesymbols", query="Greeter")
    assert "Greeter" in get("workspace-symbols", query="Greeter")

    position = {"line": len(lines) - 1, "character": len(lines[-1])}
    asked = desk.post("completions", 60, uri=uri, position=position)
    assert asked.status == 200, asked.body
    assert any(each["label"].startswith("greet") for each in asked.json()["items"])

    # An edit that only the disk knows of.
    desk.write(server.file, server.text.replace("greet(", "welcome("))
    until = time.monotonic() + 60
    labels: list[str] = []
    while not any(each.startswith("welcome") for each in labels):
        assert time.monotonic() < until, labels
        again = desk.post("completions", 60, uri=uri, position=position)
        labels = [each["label"] for each in again.json()["items"]]

    running = tree(desk.agent.api_pid())
    assert running
    assert desk.post("did-close", uri=uri).status == 200
    assert desk.post("stop", 30).status == 200
    assert not [pid for pid in running if alive(pid)]
    assert failure(desk.complete(uri))[1] == "LSP_SERVER_NOT_INITIALIZED"
