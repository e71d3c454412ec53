"""The lines that the dev command prints, pasted as they are."""

import json
import os
import re
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest

from tests.clients.environments import NODE, node_with, python_with
from tests.support.agent import Agent, StartAgent

pytestmark = [pytest.mark.clients, pytest.mark.timeout(280)]

PASTED_LIMIT_S = 40.0


LAST_LINE = re.compile("process/execute")


@pytest.fixture
def dev(start_agent: StartAgent) -> Agent:
    agent = start_agent("--dev-port", "0", command="dev")
    agent.wait_line(LAST_LINE)
    return agent


def pasted(agent: Agent, title: str) -> str:
    """Return the lines that are printed below `title`."""
    found = re.search(
        rf"^{title}.*:\n((?:  .*\n)+)", agent.output(), flags=re.MULTILINE
    )
    assert found, agent.output()
    return dedent(found[1])


def run(*words: str | Path, cwd: Path, **more: str) -> str:
    """Run a pasted line to its end and return what it printed."""
    done = subprocess.run(
        words,
        cwd=cwd,
        env={"PATH": os.defpath, "HOME": str(cwd), **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PASTED_LIMIT_S,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("version", ["0.226.1", "0.25.6"])
def test_python_lines_print_what_the_command_printed(
    dev: Agent, tmp_path: Path, version: str
) -> None:
    python = python_with("daytona", version)

    printed = run(python, "-c", pasted(dev, "Python"), cwd=tmp_path)

    assert printed.startswith("Linux ")


def test_javascript_lines_print_what_the_command_printed_and_end(
    dev: Agent, tmp_path: Path
) -> None:
    environment = node_with("@daytonaio/sdk", "0.218.0")
    (tmp_path / "node_modules").symlink_to(environment / "node_modules")

    printed = run(NODE, "-e", pasted(dev, "JavaScript"), cwd=tmp_path)

    assert printed.startswith("Linux ")


def test_curl_line_prints_the_answer(dev: Agent, tmp_path: Path) -> None:
    printed = run("sh", "-c", pasted(dev, "curl"), cwd=tmp_path)

    answer = json.loads(printed)
    assert answer["exitCode"] == 0
    assert answer["result"].startswith("Linux ")


def test_lines_fit_a_token_that_was_given_and_none_at_all(
    start_agent: StartAgent, tmp_path: Path
) -> None:
    given = {"TOOLBOX_TOKEN": "given-token"}
    options = ("--dev-port", "0")
    for agent, variables in (
        (start_agent(*options, command="dev", env=given), given),
        (start_agent(*options, "--no-auth", command="dev"), {}),
    ):
        agent.wait_line(LAST_LINE)

        printed = run("sh", "-c", pasted(agent, "curl"), cwd=tmp_path, **variables)

        assert json.loads(printed)["exitCode"] == 0
        assert "given-token" not in agent.output()


def test_lines_without_a_token_serve_the_sdk(
    start_agent: StartAgent, tmp_path: Path
) -> None:
    agent = start_agent("--dev-port", "0", "--no-auth", command="dev")
    agent.wait_line(LAST_LINE)

    printed = run(
        python_with("daytona", "0.226.1"), "-c", pasted(agent, "Python"), cwd=tmp_path
    )

    assert printed.startswith("Linux ")
