"""README's first command, in a copy of the tracked files and nothing else."""

import os
import shutil
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT, tracked
from tests.support.agent import READY, Agent

INSTALL_LIMIT_S = 150

pytestmark = [pytest.mark.agent, pytest.mark.timeout(200)]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Copy the tracked files."""
    for path in tracked():
        place = tmp_path / "clone" / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    return tmp_path / "clone"


def start(clone: Path, directory: Path) -> Agent:
    """Start the agent by its script, from somewhere else."""
    # The packages may come from the cache, which lies in the home of who runs this.
    cache = os.environ.get("PIP_CACHE_DIR", str(Path("~/.cache/pip").expanduser()))
    return Agent(
        directory,
        ["--dev-port", "0"],
        command="",
        program=[str(clone / ".ci/start")],
        env={"PIP_CACHE_DIR": cache},
    )


def test_it_installs_starts_and_stops_leaving_nothing(
    clone: Path, tmp_path: Path
) -> None:
    first = start(clone, tmp_path / "first")
    try:
        first.port = int(first.wait_line(READY, INSTALL_LIMIT_S)[1])
        assert first.request("GET", "/version").status == 200
        assert first.request("GET", "/work-dir").json()["dir"] == str(first.work_dir)
        assert first.stop() == 0
    finally:
        first.destroy()

    made = (clone / ".venv/.made-from").stat().st_mtime_ns
    second = start(clone, tmp_path / "second")
    try:
        # Within the limit of an agent that has nothing to install.
        second.wait_started()
        assert second.stop() == 0
    finally:
        second.destroy()

    assert (clone / ".venv/.made-from").stat().st_mtime_ns == made
    shutil.rmtree(clone)
