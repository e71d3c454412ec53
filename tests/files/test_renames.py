"""A rename to a free name replaces nothing, whatever the system can do."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.files.renames import rename_by_steps, rename_new

Rename = Callable[[str, str], None]
both = pytest.mark.parametrize("rename", [rename_new, rename_by_steps])


def make(path: Path, kind: str) -> None:
    if kind == "directory":
        (path / "inner").mkdir(parents=True)
    elif kind == "link":
        path.symlink_to("nowhere")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_text("content")


KINDS = ["file", "directory", "link", "pipe"]


@both
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_entry_takes_a_free_name(
    tmp_path: Path, rename: Rename, kind: str
) -> None:
    make(tmp_path / "a", kind)
    before = os.lstat(tmp_path / "a")

    rename(f"{tmp_path}/a", f"{tmp_path}/b")

    assert list(tmp_path.iterdir()) == [tmp_path / "b"]
    after = os.lstat(tmp_path / "b")
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


@both
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("taken", KINDS)
def test_a_name_that_is_taken_keeps_what_it_names(
    tmp_path: Path, rename: Rename, kind: str, taken: str
) -> None:
    make(tmp_path / "a", kind)
    make(tmp_path / "b", taken)
    before = [os.lstat(tmp_path / name).st_ino for name in "ab"]

    with pytest.raises(FileExistsError):
        rename(f"{tmp_path}/a", f"{tmp_path}/b")

    assert [os.lstat(tmp_path / name).st_ino for name in "ab"] == before


@both
def test_a_directory_cannot_go_into_itself_and_leaves_no_placeholder(
    tmp_path: Path, rename: Rename
) -> None:
    (tmp_path / "a").mkdir()

    with pytest.raises(OSError, match=r"Invalid argument") as raised:
        rename(f"{tmp_path}/a", f"{tmp_path}/a/b")

    assert raised.value.errno == errno.EINVAL
    assert list((tmp_path / "a").iterdir()) == []
