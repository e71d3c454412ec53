"""The helper itself: what it promises to every test that starts an agent."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.agent import Agent, StartAgent, running
from tests.support.processes import alive, end_all, tagged, tree, wait_gone

LEAVING_A_CHILD = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
child = subprocess.Popen(["sleep", "600"], start_new_session=True,
                         stdout=subprocess.DEVNULL)
print("Starting toolbox server on port 1", child.pid, flush=True)
signal.pause()
"""
"""A bad agent: its child has left its session, and outlives it."""


def test_what_an_agent_leaves_behind_is_told_and_ended(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        program = [sys.executable, "-c", LEAVING_A_CHILD]
        agent = stack.enter_context(running(tmp_path, program=program))
        child = int(agent.output().split()[-1])
        assert alive(child)

        with pytest.raises(AssertionError, match=r"left behind: .*sleep"):
            agent.stop()

    assert not alive(child)
    assert not alive(agent.pid)


def test_a_program_that_does_not_start_is_told_with_its_words(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "import sys; sys.exit('no such luck')"]

    with (
        pytest.raises(AssertionError, match="no such luck"),
        running(tmp_path, program=program),
    ):
        pass


def test_a_real_agent_answers_and_leaves_nothing(agent: Agent) -> None:
    assert agent.raw(
        b"GET /version HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % agent.port
    ).json()["version"]
    assert agent.api_pid() in tree(agent.pid)
    assert agent.execute("echo $0").status == 200

    assert agent.stop() == 0
    assert not tagged("AGENT_UNDER_TEST", agent.tag)


def test_a_given_token_is_the_agents(start_agent: StartAgent) -> None:
    agent = start_agent(token="given")

    assert agent.auth == {"Authorization": "Bearer given"}
    assert agent.request("GET", "/work-dir").status == 200
    assert agent.request("GET", "/work-dir", auth=False).status == 401


START_ONE = """
import os, sys
from pathlib import Path
from tests.support.agent import Agent
agent = Agent(Path(sys.argv[1]))
agent.wait_started()
print(agent.pid, agent.tag, flush=True)
sys.stdin.read()
"""


def test_an_agent_ends_with_a_test_run_that_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", START_ONE, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as run:
        assert run.stdout is not None
        pid, tag = run.stdout.readline().decode().split()
        everything = {int(pid), *tree(int(pid))}
        run.kill()

    assert all(wait_gone(each) for each in everything)
    assert not tagged("AGENT_UNDER_TEST", tag)


def test_a_zombie_has_ended() -> None:
    with subprocess.Popen(["true"]) as process:
        assert wait_gone(process.pid)
        assert not alive(process.pid)


def test_a_tree_is_found_whole_and_ended() -> None:
    line = "sleep 600 & (sleep 600 & echo; wait) & wait"
    with subprocess.Popen(["bash", "-c", line], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()

        found = tree(process.pid)

        assert len(found) == 3
        end_all({process.pid, *found})
        assert not any(map(alive, found))
