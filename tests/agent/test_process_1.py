"""A real agent as process 1 of a pid namespace, as an image runs it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent import PROGRAM, Agent, starting
from tests.support.processes import children, wait_gone

TOKEN = "canary-0123456789"
ENTRYPOINT = (
    "sh",
    "-c",
    "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 1; done",
)

pytestmark = pytest.mark.root


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """Return an agent whose `pid` is that of `unshare`, the parent of process 1."""
    with starting(tmp_path) as start:
        agent = start(
            program=("unshare", "-pf", "--mount-proc", "--kill-child", PROGRAM),
            entrypoint=ENTRYPOINT,
            env={"TOOLBOX_TOKEN": TOKEN},
        )
        agent._given_token = TOKEN
        yield agent
        # `unshare` itself heeds no signal but waits for process 1.
        for init in children(agent.pid):
            os.kill(init, signal.SIGTERM)
        agent.process.wait(9)


def run(agent: Agent, command: str) -> str:
    return str(agent.execute(command).json()["result"])


def test_orphans_are_reaped_and_exit_codes_are_right(agent: Agent) -> None:
    run(agent, "for i in $(seq 50); do (true &) ; done")
    codes = [agent.execute(f"exit {code}").json()["exitCode"] for code in range(20)]

    assert codes == list(range(20))
    assert "Z" not in run(agent, "ps -eo stat=")
    assert run(agent, "cat /proc/1/comm") == "toolbox-agent\n"


def test_the_token_is_in_no_process_that_the_namespace_shows(agent: Agent) -> None:
    shown = run(agent, "cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n'")

    assert "AGENT_UNDER_TEST" in shown
    assert TOKEN not in shown


def test_a_stop_reaches_the_sandboxes_own_command(agent: Agent) -> None:
    log = agent.state_dir / "jobs/entrypoint/output.log"
    while not log.exists() or not log.read_bytes():
        agent.request("GET", "/version")
    (init,) = children(agent.pid)

    os.kill(init, signal.SIGTERM)

    assert agent.process.wait(9) == 0
    assert wait_gone(init)
    assert b"bye\n" in log.read_bytes()
