"""Temporary files of agents that were killed go; those of others stay."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.files.journal import Journal, start_time, temporary_name


@pytest.fixture
def dead() -> str:
    """Return the name that a process which is gone had in the journal."""
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE
    ) as child:
        started = start_time(child.pid)
        child.communicate()
    return f"{child.pid}.{started}"


def note_as(state: Path, owner: str, temporary: Path) -> Path:
    directory = state / "uploads" / owner
    directory.mkdir(parents=True, exist_ok=True)
    link = directory / temporary.name
    link.symlink_to(temporary)
    return link


def owner_of(state: Path) -> str:
    return Journal(str(state))._host


def test_a_dead_process_leaves_nothing(tmp_path: Path, dead: str) -> None:
    temporary = tmp_path / temporary_name()
    temporary.touch()
    link = note_as(tmp_path, f"{owner_of(tmp_path)}.{dead}", temporary)

    Journal(str(tmp_path)).sweep()

    assert not temporary.exists()
    assert not link.parent.exists()


def test_a_recycled_process_number_is_not_the_owner(tmp_path: Path) -> None:
    temporary = tmp_path / temporary_name()
    temporary.touch()
    owner = f"{owner_of(tmp_path)}.{os.getpid()}.{start_time(os.getpid()) + 1}"
    note_as(tmp_path, owner, temporary)

    Journal(str(tmp_path)).sweep()

    assert not temporary.exists()


def test_a_living_process_keeps_its_files(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    temporary = tmp_path / temporary_name()
    temporary.touch()
    journal.note(temporary.name, str(temporary))

    Journal(str(tmp_path)).sweep()

    assert temporary.exists()
    journal.forget(temporary.name)
    journal.close()
    assert list((tmp_path / "uploads").iterdir()) == []


def test_another_host_keeps_its_files(tmp_path: Path, dead: str) -> None:
    temporary = tmp_path / temporary_name()
    temporary.touch()
    note_as(tmp_path, f"elsewhere.{dead}", temporary)

    Journal(str(tmp_path)).sweep()

    assert temporary.exists()


@pytest.mark.parametrize("kind", ["other name", "directory", "link", "missing"])
def test_whatever_the_journal_says_only_our_files_go(
    tmp_path: Path, dead: str, kind: str
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    temporary = tmp_path / temporary_name()
    link = note_as(tmp_path, f"{owner_of(tmp_path)}.{dead}", temporary)
    if kind == "other name":
        link.unlink()
        link.symlink_to(precious)
    elif kind == "directory":
        (temporary / "a").mkdir(parents=True)
        (temporary / "a" / "link").symlink_to(precious)
    elif kind == "link":
        temporary.symlink_to(precious)

    Journal(str(tmp_path)).sweep()

    assert precious.read_text() == "kept"
    assert not os.path.lexists(temporary)
    assert not os.path.lexists(link)


def test_junk_in_the_journal_does_no_harm(tmp_path: Path, dead: str) -> None:
    uploads = tmp_path / "uploads"
    (uploads / "junk").mkdir(parents=True)
    (uploads / "file").touch()
    (uploads / f"{owner_of(tmp_path)}.{dead}").touch()
    (uploads / f"{owner_of(tmp_path)}.99999999.{'9' * 30}").mkdir()

    Journal(str(tmp_path)).sweep()

    assert (uploads / "junk").is_dir()


def test_a_journal_that_leads_elsewhere_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "uploads").symlink_to("elsewhere")
    journal = Journal(str(tmp_path))

    journal.note("a", "/a")

    assert list((tmp_path / "elsewhere").iterdir()) == []
    journal.close()


def test_without_a_state_directory_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    journal = Journal(str(tmp_path / "file"))

    journal.note("a", "/a")
    journal.forget("a")
    journal.sweep()
    journal.close()


def test_a_state_directory_that_was_cleared_is_made_again(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    journal.note("a", "/a")
    subprocess.run(["rm", "-r", tmp_path / "uploads"], check=True)
    journal.note("b", "/b")

    journal.note("c", "/c")

    assert [each.name for each in Path(journal._own).iterdir()] == ["c"]
    journal.forget("c")
    journal.close()
