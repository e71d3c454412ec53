"""Killed at any moment, an edit has happened to all its files or to none."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.files.edits.registry import Edits
from tests.files.conftest import strays
from tests.files.edits.endless import FILES

ROOT = Path(__file__).parents[3]
HALF_WAY_AT_LEAST = 4


def whole(content: str) -> bool:
    """Tell whether a content is one that was written in one piece."""
    lines = content.splitlines()
    return len(lines) == 2000 and len(set(lines)) == 1


def run_and_kill(work: Path, state: Path, after_s: float) -> None:
    words = [sys.executable, "-m", "tests.files.edits.endless"]
    words += [str(work), str(state)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(after_s)
        child.kill()


def kill_often(tmp_path: Path, times: int) -> tuple[int, int]:
    """Kill an editor many times; return how often the last edit was half-way.

    On a slow machine most kills come too early, so it goes on until some have not.
    """
    work, state = tmp_path / "work", tmp_path / "state"
    work.mkdir()
    (work / "gone").write_text("0\n" * 2000)
    chance = random.Random(times)
    forward = back = 0
    killed = 0
    while killed < times or forward + back < HALF_WAY_AT_LEAST:
        killed += 1
        run_and_kill(work, state, chance.uniform(0, 0.01 if killed < times else 0.1))
        for name in FILES:
            assert whole((work / name).read_text()), name
        contents = {(work / name).read_text() for name in FILES}
        steps = {path.name for path in (state / "edits").glob("*/*")}
        forward += "commit" in steps
        back += "plan" in steps
        if "commit" not in steps:
            assert len(contents) == 1

        Edits(str(work), str(state)).recover()

        contents = {(work / name).read_text() for name in FILES}
        assert len(contents) == 1
        others = [name for name in ("come", "gone") if (work / name).exists()]
        assert len(others) == 1
        assert (work / others[0]).read_text() in contents
        assert strays(work) == []
        assert {path.name for path in work.iterdir()} - {"new"} == {
            *("a", "d", "x"),
            *others,
        }
        steps = {path.name for path in (state / "edits").glob("*/*")}
        assert not steps & {"plan", "commit", "new"}
        # What comes next starts from a number that the tree does not have yet.
        if others == ["come"]:
            (work / "come").rename(work / "gone")
    return forward, back


@pytest.mark.timeout(120)
def test_a_killed_edit_is_old_or_new_for_all_its_files(tmp_path: Path) -> None:
    forward, back = kill_often(tmp_path, 25)

    assert forward + back >= HALF_WAY_AT_LEAST


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_hundred_kills_leave_old_or_new(tmp_path: Path) -> None:
    forward, back = kill_often(tmp_path, 100)

    assert forward > 0
    assert back > 0
