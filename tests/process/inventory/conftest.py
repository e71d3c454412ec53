"""What runs in an agent, for those who look at it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent import Agent

Processes = Callable[..., list[dict[str, Any]]]


class Desk:
    """Asks one agent for what it runs."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._fifo = agent.work_dir / "told"
        os.mkfifo(self._fifo)

    def all(self, query: str = "") -> list[dict[str, Any]]:
        """Return what runs."""
        answer = self.agent.request("GET", f"/process{query}")
        assert answer.status == 200, answer.body
        found: list[dict[str, Any]] = answer.json()
        return found

    def one(self, entry_id: str) -> dict[str, Any]:
        """Return what runs under a client's name."""
        (found,) = [each for each in self.all() if each["id"] == entry_id]
        return found

    def holding(self, pid: int, query: str = "") -> dict[str, Any]:
        """Return what a process belongs to."""
        (found,) = [
            each
            for each in self.all(query)
            if pid in [process["pid"] for process in each["processes"]]
        ]
        return found

    def end(self, pid: object, query: str = "") -> int:
        """End a process; return the status."""
        return self.agent.request("DELETE", f"/process/{pid}{query}").status

    def session(self, name: str) -> None:
        """Start a session."""
        body = {"sessionId": name}
        assert self.agent.request("POST", "/process/session", body).status == 201

    def run(self, name: str, command: str, **fields: object) -> Any:
        """Run a command in a session."""
        path = f"/process/session/{name}/exec"
        body = {"command": command, **fields}
        answer = self.agent.request("POST", path, body)
        assert answer.status in {200, 202}, answer.body
        return answer.json()

    def start(self, name: str, command: str) -> tuple[str, list[int]]:
        """Start a command that tells pids; return its id and these.

        It writes them to `$told`, which is opened once.
        """
        line = f"told={self._fifo}; {command}"
        command_id: str = self.run(name, line, runAsync=True)["cmdId"]
        return command_id, self.told()

    def told(self) -> list[int]:
        """Wait for what a command tells of itself."""
        return [int(word) for word in self._fifo.read_text().split()]

    @property
    def fifo(self) -> Path:
        """Where commands tell pids."""
        return self._fifo


@pytest.fixture
def desk(agent: Agent) -> Desk:
    """Return a client of a running agent."""
    return Desk(agent)
