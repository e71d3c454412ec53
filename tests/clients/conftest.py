"""Runs each client's script once against a real dev agent and keeps what it told."""

import contextlib
import fcntl
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.clients.environments import NODE, node_with, python_with, tools_path
from tests.git.remote import serving
from tests.lsp.real_servers import BY_NAME
from tests.support.agent import Agent, running

SCRIPTS = Path(__file__).with_name("scripts")
CONTROL_PLANE = re.compile(r"control plane\s+(http://\S+)")
SCRIPT_LIMIT_S = 100.0


@dataclass(frozen=True)
class Told:
    """What a client's script told of its scenarios, and of the agent it talked to."""

    client: str
    given: dict[str, str]
    outcomes: dict[str, Any]
    errors: str

    def __getitem__(self, scenario: str) -> dict[str, Any]:
        """Return a scenario's outcome; one that raised fails the test."""
        outcome: dict[str, Any] = self.outcomes[scenario]
        assert "raised" not in outcome, f"{outcome['raised']}\n{self.errors}"
        return outcome


SCRIPT_OF = {
    "python sync": ["python_newest.py", "sync"],
    "python async": ["python_newest.py", "async"],
    "python generated": ["python_generated.py"],
    "python killed": ["python_killed.py"],
    "python first": ["python_first.py"],
    "javascript": ["javascript.cjs"],
    "code sync": ["python_code_run.py", "sync"],
    "code async": ["python_code_run.py", "async"],
    "code first": ["python_first_code_run.py"],
    "code middle": ["python_first_code_run.py"],
    "code javascript": ["code_run.cjs"],
    "git sync": ["python_git.py", "sync"],
    "git async": ["python_git.py", "async"],
    "git first": ["python_git.py", "first"],
    "git javascript": ["git.cjs"],
    "terminals sync": ["python_terminals.py", "sync"],
    "terminals async": ["python_terminals.py", "async"],
    "terminals javascript": ["terminals.cjs"],
    "sessions sync": ["python_sessions.py", "sync"],
    "sessions async": ["python_sessions.py", "async"],
    "sessions middle sync": ["python_sessions.py", "sync"],
    "sessions middle async": ["python_sessions.py", "async"],
    "sessions first": ["python_first_sessions.py"],
    "sessions javascript": ["sessions.cjs"],
    "interpreter sync": ["python_interpreter.py", "sync"],
    "interpreter async": ["python_interpreter.py", "async"],
    "interpreter javascript": ["interpreter.cjs"],
    "lsp sync": ["python_lsp.py", "sync"],
    "lsp async": ["python_lsp.py", "async"],
    "lsp first": ["python_lsp.py", "first"],
    "lsp javascript": ["lsp.cjs"],
    "previews sync": ["python_previews.py", "sync"],
    "previews async": ["python_previews.py", "async"],
    "previews first": ["python_previews.py", "first"],
    "previews javascript": ["previews.cjs"],
}

OLD_VERSIONS = {
    "python first": "0.25.6",
    "code first": "0.25.6",
    "git first": "0.25.6",
    # Among the last without a route for code.
    "code middle": "0.160.0",
    "sessions first": "0.25.6",
    "lsp first": "0.25.6",
    "previews first": "0.25.6",
    # Of those that take the outputs apart themselves.
    "sessions middle sync": "0.160.0",
    "sessions middle async": "0.160.0",
}

ENTRYPOINT = ("sh", "-c", "echo up é; sleep 0.1; echo bad >&2")
"""The image's own command, where sessions are looked at."""


def command_of(client: str) -> tuple[list[str], Path]:
    """Return the words that run a client's script, and the directory to do so in."""
    client = client.partition(" with ")[0]
    script, *arguments = SCRIPT_OF[client]
    words = [str(SCRIPTS / script), *arguments]
    if script.endswith(".cjs"):
        return [str(NODE), *words], node_with("@daytonaio/sdk", "0.218.0")
    version = OLD_VERSIONS.get(client, "0.226.1")
    return [str(python_with("daytona", version)), *words], SCRIPTS


def run_client(client: str, root: Path) -> Told:
    """Run a client's script against an agent of its own, started under `root`."""
    words, directory = command_of(client)
    home, local = root / "client-home", root / "local"
    home.mkdir()
    local.mkdir()
    # The sandbox's tools: a Python with matplotlib, and a node that knows types.
    env = {"PATH": tools_path()}
    about: dict[str, str] = {}
    if client.startswith("lsp"):
        server = BY_NAME[client.partition(" with ")[2] or "ty"]
        env["PATH"] = f"{server.directory()}{os.pathsep}{env['PATH']}"
        about = {"language": server.language, "file": server.file, "text": server.text}
    entrypoint = ENTRYPOINT if client.startswith("sessions") else ()
    with (
        git_remote(client, root) as remote,
        running(
            *(root, "--dev-port", "0"), command="dev", env=env, entrypoint=entrypoint
        ) as agent,
    ):
        given = describe(agent) | {"local": str(local)} | remote | about
        done = subprocess.run(
            words,
            cwd=directory,
            # Nothing of ours: no proxy, no `DAYTONA_*`, no bytecode among our sources.
            env={
                "HOME": str(home),
                "PATH": os.defpath,
                "LANG": "C.UTF-8",
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            input=json.dumps(given).encode(),
            capture_output=True,
            timeout=SCRIPT_LIMIT_S,
            check=False,
        )
        errors = f"{done.stderr.decode(errors='replace')}\n{agent.log()}"
    assert done.returncode == 0, f"{done.stdout.decode(errors='replace')}\n{errors}"
    # The last line, because some client or other prints for itself.
    outcomes = json.loads(done.stdout.splitlines()[-1])
    return Told(client, given, outcomes, errors)


@contextlib.contextmanager
def git_remote(client: str, root: Path) -> Iterator[dict[str, str]]:
    """Serve a repository to those who drive git; tell where, and who may."""
    if not client.startswith("git"):
        yield {}
        return
    user, password = "bot", "s3cret/+"
    with serving(root / "served", users={user: password}) as remote:
        remote.create("project", {"a.txt": "one"})
        yield {"remote": remote.url("project"), "user": user, "password": password}


def describe(agent: Agent) -> dict[str, str]:
    """Return what a script needs to know of a dev agent."""
    return {
        "api": agent.wait_line(CONTROL_PLANE)[1],
        "toolbox": agent.url,
        "key": agent.token,
        "keeper": str(agent.pid),
        "work": str(agent.work_dir),
        "home": str(agent.home),
    }


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory that all workers of this test run have in common."""
    base = tmp_path_factory.getbasetemp()
    common = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    directory = common / "clients"
    directory.mkdir(exist_ok=True)
    return directory


@pytest.fixture(scope="module")
def told(request: pytest.FixtureRequest, shared: Path) -> Told:
    """Return what the client named by the parameter told; each runs once a test run."""
    client: str = request.param
    root = shared / client.replace(" ", "-")
    with root.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = root.with_suffix(".json")
        if not kept.exists():
            root.mkdir()
            ran = run_client(client, root)
            kept.write_text(json.dumps([ran.given, ran.outcomes, ran.errors]))
    return Told(client, *json.loads(kept.read_text()))
