"""Any sequence of edits and undos leaves the files that a simple model says."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings, strategies as st

from agent.errors import AgentError
from agent.files.edits.models import (
    DeleteEdit,
    Edit,
    EditRequest,
    InsertEdit,
    MoveEdit,
    ReplaceEdit,
    WriteEdit,
)
from agent.files.edits.registry import Edits
from tests.files.conftest import strays

PATHS = st.sampled_from(["a", "b", "d/c", "d/e/f"])
TEXTS = st.text("xy\n", max_size=8)
EDITS: st.SearchStrategy[Edit] = st.one_of(
    st.builds(WriteEdit, path=PATHS, content=TEXTS),
    st.builds(
        ReplaceEdit, path=PATHS, old=st.sampled_from("xy"), new=TEXTS, count=st.just(1)
    ),
    st.builds(InsertEdit, path=PATHS, line=st.integers(1, 3), text=TEXTS),
    st.builds(DeleteEdit, path=PATHS),
    st.builds(MoveEdit, path=PATHS, destination=PATHS),
)
STEPS = st.lists(
    st.lists(EDITS, min_size=1, max_size=4) | st.integers(0, 5), max_size=12
)
Files = dict[str, str]


def expected(files: Files, edits: list[Edit]) -> Files | None:
    """Return what edits make of files; None: one of them cannot be made."""
    made = dict(files)
    for edit in edits:
        if isinstance(edit, WriteEdit):
            made[edit.path] = edit.content
            continue
        old = made.pop(edit.path, None)
        if old is None:
            return None
        if isinstance(edit, DeleteEdit):
            continue
        path = edit.destination if isinstance(edit, MoveEdit) else edit.path
        new = old if isinstance(edit, MoveEdit) else changed(old, edit)
        # A file that is moved to its own name finds it taken.
        if new is None or path in made or (isinstance(edit, MoveEdit) and path == edit.path):  # fmt: skip
            return None
        made[path] = new
    return made


def changed(old: str, edit: Edit) -> str | None:
    """Return what a replacement or an insertion makes of a content."""
    if isinstance(edit, ReplaceEdit):
        return old.replace(edit.old, edit.new) if old.count(edit.old) == 1 else None
    assert isinstance(edit, InsertEdit)
    lines = old.splitlines(keepends=True)
    if edit.line > len(lines) + 1:
        return None
    if edit.line == len(lines) + 1:
        return old + ("" if not old or old.endswith("\n") else "\n") + edit.text
    lines.insert(edit.line - 1, edit.text.removesuffix("\n") + "\n")
    return "".join(lines)


def on_disk(root: Path) -> Files:
    return {
        str(path.relative_to(root)): path.read_text()
        for path in root.rglob("*")
        if path.is_file()
    }


def make(edits: Edits, wanted: list[Edit]) -> str | None:
    """Make edits; return their id, or "" when they were refused."""
    try:
        return edits.edit_now(EditRequest(edits=wanted)).id
    except (AgentError, FileNotFoundError):
        return ""


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_files_are_what_edits_and_undos_made_of_them(
    steps: list[list[Edit] | int],
) -> None:
    with TemporaryDirectory() as top:
        work, state = Path(top, "work"), Path(top, "state")
        work.mkdir()
        edits = Edits(str(work), str(state))
        files: Files = {}
        done: list[tuple[str, Files]] = []
        for step in steps:
            if isinstance(step, int):
                # Only the newest can be taken back for sure.
                if done:
                    name, files = done.pop()
                    edits.undo_now(name)
            else:
                after = expected(files, step)
                made = make(edits, step)
                assert (made == "") is (after is None)
                if made:
                    done.append((made, files))
                files = files if after is None else after
            assert on_disk(work) == files
            assert strays(work) == []
