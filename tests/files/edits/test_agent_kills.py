"""An agent killed while it edits: the next one's first answer finds all or nothing.

The kills come at random moments of real requests; the keeper is stopped meanwhile, so
that what the killed one left can be looked at before the next one has recovered it.
"""

import contextlib
import http.client
import os
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.files.conftest import strays
from tests.support.agent import Agent, Answer, StartAgent
from tests.support.processes import end_all, tree, wait_gone

FILES = [f"{number % 3}/{number}" for number in range(40)]
WORDS = 1000
"""In one line, because a diff of many takes longer than what is to be interrupted."""
HALF_WAY_AT_LEAST = 3
WHOLE_AGENT_EVERY = 6
"""The others kill the api alone: the whole agent takes longer to start again."""


class Editing:
    """Edits of one agent after another, in the same work and state directory."""

    def __init__(self, start: StartAgent, root: Path, pool: ThreadPoolExecutor) -> None:
        self.work, self.state = root / "edited", root / "kept"
        self.work.mkdir()
        self._start = start
        self._pool = pool
        self.agent = self._begin()
        self.sent = self.acknowledged = 0
        (self.work / "gone").write_text("0")

    def _begin(self) -> Agent:
        # The later of the two options counts.
        return self._start("--state-dir", str(self.state), token="edits-token")

    def edit(self) -> "Future[Answer]":
        """Send one edit that gives every file the next number."""
        self.sent += 1
        content = f"{self.sent} " * WORDS
        old, new = ("come", "gone") if self.at("come").exists() else ("gone", "come")
        edits: list[dict[str, Any]] = [
            *(
                {"type": "write", "path": self.name(n), "content": content}
                for n in FILES
            ),
            {"type": "delete", "path": self.name(old)},
            {"type": "write", "path": self.name(f"new/{new}"), "content": content},
            {
                "type": "move",
                "path": self.name(f"new/{new}"),
                "destination": self.name(new),
            },
        ]
        request = self.agent.request
        return self._pool.submit(request, "POST", "/files/edit", {"edits": edits})

    def at(self, name: str) -> Path:
        """Return where a file is."""
        return self.work / name

    def name(self, name: str) -> str:
        """Return a file's absolute path."""
        return str(self.at(name))

    def warm_up(self) -> float:
        """Make an edit, the first one is slow; return how long the next one took."""
        began = 0.0
        for _ in range(2):
            began = time.monotonic()
            assert self.edit().result().status == 200
            self.acknowledged = self.sent
        return time.monotonic() - began

    def kill(self, share: float, *, whole: bool) -> set[str]:
        """Kill the agent after a share of an edit; return how far it had come."""
        victim = self.agent.api_pid()
        after_s = share * self.warm_up()
        answer = self.edit()
        time.sleep(after_s)
        os.kill(self.agent.pid, signal.SIGSTOP)
        os.kill(victim, signal.SIGKILL)
        assert wait_gone(victim)
        with contextlib.suppress(OSError, http.client.HTTPException):
            assert answer.result().status == 200
            self.acknowledged = self.sent
        steps = {path.name for path in (self.state / "edits").glob("*/*")}
        if whole:
            end_all(tree(self.agent.pid))
            self.agent.destroy()
            self.agent = self._begin()
        else:
            os.kill(self.agent.pid, signal.SIGCONT)
        return steps

    def check(self) -> None:
        """See that the first answer finds one whole edit, and nothing beside it."""
        assert self.agent.request("GET", f"/files/info?path={self.work}").status == 200
        contents = {self.at(name).read_text() for name in FILES}
        assert len(contents) == 1
        (content,) = contents
        number = int(content.partition(" ")[0])
        assert content == f"{number} " * WORDS
        assert self.acknowledged <= number <= self.sent
        others = [name for name in ("come", "gone") if self.at(name).exists()]
        assert len(others) == 1
        assert self.at(others[0]).read_text() == content
        assert strays(self.work) == []
        steps = {path.name for path in (self.state / "edits").glob("*/*")}
        assert not steps & {"plan", "commit", "new"}


@pytest.fixture
def editing(start_agent: StartAgent, tmp_path: Path) -> Iterator[Editing]:
    with ThreadPoolExecutor(1) as pool:
        yield Editing(start_agent, tmp_path, pool)


def kill_often(editing: Editing, times: int) -> tuple[int, int]:
    """Kill the agent many times; return how often it went forward, and how often back."""
    chance = random.Random(times)
    forward = back = killed = 0
    while killed < times or forward + back < HALF_WAY_AT_LEAST:
        killed += 1
        whole = killed % WHOLE_AGENT_EVERY == 0
        steps = editing.kill(chance.uniform(0.1, 1.1), whole=whole)
        forward += "commit" in steps
        back += "plan" in steps
        editing.check()
    return forward, back


@pytest.mark.timeout(60)
def test_a_killed_agent_has_made_an_edit_or_has_not(editing: Editing) -> None:
    forward, back = kill_often(editing, 30)

    assert forward + back >= HALF_WAY_AT_LEAST


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_hundred_killed_agents_have_made_an_edit_or_have_not(
    editing: Editing,
) -> None:
    forward, back = kill_often(editing, 100)

    assert forward > 0
    assert back > 0
