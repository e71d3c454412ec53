"""Builds the wheel, installs it into an environment of its own, and uses it once.

`python -m tests.image.wheel` is the last step of `.ci/run`. What it finds and the tests
do not: a file missing from the wheel, a dependency that only the work tree has.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.agent import running

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / ".ci/constraints.txt"
STOP_LIMIT_S = 5.0


def build(directory: Path) -> Path:
    """Build the wheel into `directory` and return it."""
    # From a copy of the files that git knows, because others may lie beside them.
    source = directory / "source"
    source.mkdir()
    names = subprocess.run(
        ["git", "ls-files", "-z", "agent", "pyproject.toml", "README.md"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    for name in filter(None, names):
        place = source / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((ROOT / name).read_bytes())
    _run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(directory)],
        cwd=source,
    )
    (wheel,) = directory.glob("*.whl")
    return wheel


def install(wheel: Path, directory: Path) -> Path:
    """Install the wheel into a new environment and return its `bin`."""
    environment = directory / "environment"
    _run([sys.executable, "-m", "venv", str(environment)])
    python = str(environment / "bin/python")
    constraints = ["--constraint", str(CONSTRAINTS)]
    _run([python, "-m", "pip", "install", "--quiet", *constraints, str(wheel)])
    _run([python, "-m", "pip", "check"])
    return environment / "bin"


def use(program: Path, directory: Path) -> None:
    """Start the agent, ask for its health, stop it, and see that nothing is left."""
    began = time.monotonic()
    with running(directory, program=[str(program)]) as agent:
        answer = agent.request("GET", "/health", auth=False)
        assert (answer.status, answer.json()["status"]) == (200, "ok"), answer
        _say("healthy", began)
        loaded = agent.execute("readlink /proc/$PPID/exe; echo $PWD").json()
        assert str(agent.work_dir) in loaded["result"], loaded
        docs = agent.request("GET", "/docs")
        assert docs.status == 200, "the viewer's files are not in the wheel"
        began = time.monotonic()
        # Fails, too, when any process of the agent is still there.
        assert agent.stop() == 0
    assert time.monotonic() - began < STOP_LIMIT_S
    _say("stopped", began)


def main() -> None:
    """Do all of it in a temporary directory."""
    with tempfile.TemporaryDirectory(prefix="toolbox-agent-") as name:
        directory = Path(name)
        began = time.monotonic()
        wheel = build(directory)
        _say(f"built {wheel.name}", began)
        began = time.monotonic()
        program = install(wheel, directory) / "toolbox-agent"
        _say("installed", began)
        use(program, directory)


def _say(what: str, began: float) -> None:
    sys.stdout.write(f"{what}: {time.monotonic() - began:.2f} s\n")
    sys.stdout.flush()


def _run(command: list[str], cwd: Path | None = None) -> None:
    done = subprocess.run(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")


if __name__ == "__main__":
    main()
