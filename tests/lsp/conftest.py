"""A project, a language server that misbehaves on demand, and a client of the agent."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent import Agent, Answer, StartAgent
from tests.support.processes import alive

FAKE = Path(__file__).with_name("fake_server.py")
PROGRAM = '#!/bin/sh\nexec {python} -I {server} "$@"\n'


def install(directory: Path, name: str = "ty", server: Path = FAKE) -> None:
    """Put a program into a directory that runs the fake server."""
    directory.mkdir(exist_ok=True)
    program = directory / name
    program.write_text(PROGRAM.format(python=sys.executable, server=server))
    program.chmod(0o755)


@dataclass
class Desk:
    """Asks the agent about one project."""

    agent: Agent
    project: str = "proj"
    language: str = "python"

    @property
    def root(self) -> Path:
        """The project's directory."""
        return self.agent.work_dir / "proj"

    @property
    def base(self) -> dict[str, object]:
        """What every body says."""
        return {"languageId": self.language, "pathToProject": self.project}

    def write(self, name: str, text: str) -> str:
        """Write a file of the project; return its URI as the newest clients send it."""
        (self.root / name).write_text(text)
        return f"file://proj/{name}"

    def behave(self, **how: object) -> None:
        """Tell the fake server how to begin."""
        (self.root / "fake.json").write_text(json.dumps(how))

    def post(self, route: str, limit_s: float = 9.0, **body: object) -> Answer:
        """Make a request about the project."""
        sent = {**self.base, **body}
        return self.agent.request("POST", f"/lsp/{route}", sent, limit_s=limit_s)

    def start(self) -> None:
        """Start the server."""
        answer = self.post("start")
        assert (answer.status, answer.body) == (200, b""), answer.body

    def complete(self, uri: str, line: object = 0, character: object = 0) -> Answer:
        """Ask for completions."""
        position = {"line": line, "character": character}
        return self.post("completions", uri=uri, position=position)

    def labels(self, uri: str) -> list[str]:
        """Return the labels of the completions at a document's beginning."""
        answer = self.complete(uri)
        assert answer.status == 200, answer.body
        return [each["label"] for each in answer.json()["items"]]

    def heard(self, method: str = "") -> list[dict[str, Any]]:
        """Return what the fake servers have heard, of one method or all."""
        path = self.agent.work_dir / "heard.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines]
        return [each for each in found if not method or each.get("method") == method]

    def pids(self) -> set[int]:
        """Return the fake servers that live."""
        return {each["pid"] for each in self.heard() if alive(each["pid"])}


def failure(answer: Answer) -> tuple[int, str, str]:
    """Return the status, the code and the message of a failure."""
    told = answer.json()
    assert told["statusCode"] == answer.status
    return answer.status, told["code"], told["message"]


@pytest.fixture
def desk(start_agent: StartAgent, tmp_path: Path) -> Iterator[Desk]:
    """Return a client of an agent whose Python server is the fake one."""
    install(tmp_path / "bin")
    limits = tmp_path / "lsp.toml"
    limits.write_text(
        "[limits]\nrequest = 1.5\ninitialize = 3\nshutdown = 0.5\nexit = 0.5"
    )
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.defpath}"
    agent = start_agent("--lsp-config", str(limits), env={"PATH": path})
    (agent.work_dir / "proj").mkdir()
    yield Desk(agent)
    agent.stop()
