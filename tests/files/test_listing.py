"""What a directory holds, in which order and how deep."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from agent.files import listing
from agent.files.deletion import delete
from agent.files.directories import make_directories
from agent.files.listing import Listing, sort_names
from agent.files.paths import Paths


def entries(work_dir: Path, path: str = ".", depth: int = 1) -> list[dict[str, Any]]:
    found = Listing(Paths(str(work_dir)), path, depth, with_paths=True)
    text = b""
    while not found.done:
        text += found.block()
    parsed: list[dict[str, Any]] = json.loads(text)
    return parsed


def paths(work_dir: Path, path: str = ".", depth: int = 1) -> list[str]:
    return [entry["path"] for entry in entries(work_dir, path, depth)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "b/c/d").mkdir(parents=True)
    (tmp_path / "b/c/d/leaf").write_bytes(b"12345")
    (tmp_path / "b/.hidden").touch()
    (tmp_path / "a.txt").touch()
    (tmp_path / "b.txt").touch()
    (tmp_path / "to-b").symlink_to("b")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


def test_entries_are_sorted_by_bytes_and_dot_files_included(tmp_path: Path) -> None:
    names = [b"B", b"a", b".x", b"a b", "é".encode(), b"\xff", b"\xc3", "漢".encode()]
    for name in names:
        (tmp_path / os.fsdecode(name)).touch()

    found = [entry["name"] for entry in entries(tmp_path)]

    assert found == [name.decode("utf-8", "replace") for name in sorted(names)]


def test_an_empty_directory_has_no_entries(tmp_path: Path) -> None:
    assert entries(tmp_path) == []


@pytest.mark.parametrize(
    ("depth", "found"),
    [
        (1, ["a.txt", "b", "b.txt", "dangling", "loop", "to-b"]),
        (2, ["a.txt", "b", "b/.hidden", "b/c", "b.txt", "dangling", "loop", "to-b"]),
        (9, ["a.txt", "b", "b/.hidden", "b/c", "b/c/d", "b/c/d/leaf", "b.txt", "dangling", "loop", "to-b"]),
    ],
)  # fmt: skip
def test_each_directory_is_followed_by_what_is_in_it(
    tree: Path, depth: int, found: list[str]
) -> None:
    assert paths(tree, depth=depth) == found


@pytest.mark.parametrize(
    ("root", "first"),
    [("b", "b/.hidden"), ("./b/", "b/.hidden"), ("b/../b", "b/.hidden"), ("to-b", "to-b/.hidden")],
)  # fmt: skip
def test_paths_begin_with_the_root_as_asked(tree: Path, root: str, first: str) -> None:
    assert paths(tree, root)[0] == first


def test_an_absolute_root_gives_absolute_paths(tree: Path) -> None:
    assert paths(tree, f"{tree}/b/c") == [f"{tree}/b/c/d"]
    assert "/proc" in paths(tree, "/")


def test_links_have_the_data_of_what_they_lead_to(tree: Path) -> None:
    found = {entry["name"]: entry for entry in entries(tree)}

    assert found["to-b"]["isDir"] is True
    assert found["to-b"]["mode"].startswith("d")
    for name in ("dangling", "loop"):
        assert found[name]["isDir"] is False
        assert found[name]["mode"] == "Lrwxrwxrwx"
    assert found["dangling"]["size"] == len("nowhere")


def test_special_files_are_listed_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o644)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))

        found = {entry["name"]: entry["mode"][0] for entry in entries(tmp_path)}

    assert found == {"fifo": "p", "socket": "S"}


def test_all_fields_are_there(tree: Path) -> None:
    leaf = entries(tree, "b/c/d")[0]

    assert sorted(leaf) == sorted(
        ["name", "path", "size", "mode", "permissions", "modTime", "modifiedAt", "isDir", "owner", "group"]
    )  # fmt: skip
    assert (leaf["name"], leaf["size"], leaf["isDir"]) == ("leaf", 5, False)


def test_a_link_loop_through_directories_ends(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/self").symlink_to("..")

    assert paths(tmp_path, depth=50) == ["d", "d/self"]


def test_a_tree_deeper_than_any_recursion_limit_is_listed(tmp_path: Path) -> None:
    depth = 1200
    make_directories(f"{tmp_path}/" + "d/" * depth)

    found = paths(tmp_path, depth=5000)

    # pytest clears up by recursion.
    delete(f"{tmp_path}/d", recursive=True)
    assert len(found) == depth


@pytest.mark.parametrize(("root", "kind"), [("nowhere", FileNotFoundError), ("a.txt", NotADirectoryError), ("loop", OSError)])  # fmt: skip
def test_a_root_that_cannot_be_listed_is_an_error(
    tree: Path, root: str, kind: type[OSError]
) -> None:
    with pytest.raises(kind) as caught:
        entries(tree, root)

    assert caught.value.filename == root


@pytest.mark.usefixtures("all_closed")
def test_many_blocks_make_one_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "BLOCK_ENTRIES", 4)
    monkeypatch.setattr(listing, "BATCH_ENTRIES", 2)
    for count in range(13):
        directory = tmp_path / str(count)
        (directory / "sub").mkdir(parents=True)
        for number in range(count):
            (directory / "sub" / f"{number:02}").touch()

        found = paths(tmp_path, f"{count}", depth=3)

        expected = [f"{count}/sub/{number:02}" for number in range(count)]
        assert found == [f"{count}/sub", *expected]


@pytest.mark.usefixtures("all_closed")
def test_a_listing_that_is_given_up_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "BLOCK_ENTRIES", 2)
    monkeypatch.setattr(listing, "BATCH_ENTRIES", 2)
    for number in range(9):
        (tmp_path / f"d{number}/sub").mkdir(parents=True)

    found = Listing(Paths(str(tmp_path)), ".", 3, with_paths=True)
    found.block()

    assert not found.done


def test_entries_that_vanish_are_left_out(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}").touch()
    found = Listing(Paths(str(tmp_path)), ".", 1, with_paths=True)
    found._open_root()
    (tmp_path / "1").unlink()

    names = [entry.name for entry in found._walk()]

    assert names == ["0", "2"]


@settings(max_examples=50)
@given(
    st.sets(
        st.binary(min_size=1, max_size=8).map(
            lambda b: b.replace(b"\0", b"0").replace(b"/", b"_")
        )
    )
)
def test_names_sort_as_their_bytes(names: set[bytes]) -> None:
    found = sort_names([os.fsdecode(name) for name in names])

    assert [os.fsencode(name) for name in found] == sorted(names)
