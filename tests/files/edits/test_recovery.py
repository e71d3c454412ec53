"""What a killed agent had begun is finished or taken back by the next."""

from pathlib import Path

import pytest

from agent.files.edits.journal import EditJournal, _record_of, _Work
from agent.files.edits.models import DeleteEdit, WriteEdit
from agent.files.edits.view import View
from agent.files.paths import Paths
from tests.files.conftest import strays


def begin(work: Path, journal: EditJournal, *, commit: bool) -> None:
    """Do what an agent does to two files up to the moment when it is killed."""
    (work / "a").write_text("old")
    (work / "b").write_text("old")
    view = View(Paths(str(work)))
    view.apply(WriteEdit(path="a", content="new"))
    view.apply(WriteEdit(path="d/e", content="new"))
    view.apply(DeleteEdit(path="b"))
    files = view.changed()
    name = "0" * 16 + "-3-" + "0" * 16
    edit = _Work(f"{journal.directory}/{name}", _record_of(files))
    edit.begin([each.before for each in files])
    edit.stage(files)
    if commit:
        edit.step("plan", "commit")
        edit.apply(0)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def journal(tmp_path: Path) -> EditJournal:
    return EditJournal(str(tmp_path / "state"))


def recover(work: Path, journal: EditJournal) -> dict[str, str]:
    """Recover; return what the files hold."""
    with journal.alone():
        journal.recover()
    assert strays(work) == []
    left = {path.name for path in Path(journal.directory).glob("*/*")}
    assert not left & {"plan", "commit"}
    return {
        str(path.relative_to(work)): path.read_text()
        for path in work.rglob("*")
        if path.is_file()
    }


def test_before_the_commit_it_goes_back(work: Path, journal: EditJournal) -> None:
    with journal.alone():
        begin(work, journal, commit=False)

    assert recover(work, journal) == {"a": "old", "b": "old"}
    assert not (work / "d").exists()


def test_after_the_commit_it_goes_forward(work: Path, journal: EditJournal) -> None:
    with journal.alone():
        begin(work, journal, commit=True)

    assert recover(work, journal) == {"a": "new", "d/e": "new"}


def test_somebody_elses_change_meanwhile_takes_it_back_and_stays(
    work: Path, journal: EditJournal
) -> None:
    with journal.alone():
        begin(work, journal, commit=True)
    (work / "b").write_text("somebody else's")

    assert recover(work, journal) == {"a": "old", "b": "somebody else's"}
    assert not (work / "d").exists()


def test_junk_among_the_records_does_no_harm(work: Path, journal: EditJournal) -> None:
    name = "1" * 16 + "-0-" + "1" * 16
    with journal.alone():
        (Path(journal.directory) / name).mkdir()
        (Path(journal.directory) / name / "plan").write_text("no record")
        (Path(journal.directory) / "junk").touch()
        begin(work, journal, commit=True)
        journal.recover()

    assert (work / "a").read_text() == "new"
