"""What a deletion removes, and above all what it does not."""

import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from agent.errors import ConflictError, InvalidPathError, InvalidRequestError
from agent.files.deletion import delete, mount_points

pytestmark = pytest.mark.usefixtures("all_closed")


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "canary").write_text("alive")
    return outside


@pytest.mark.parametrize("recursive", [False, True])
@pytest.mark.parametrize(
    "kind", ["file", "fifo", "socket", "link", "dangling", "dirlink"]
)
def test_what_is_no_directory_is_removed_itself(
    tmp_path: Path, canary: Path, kind: str, recursive: bool
) -> None:
    path = tmp_path / kind
    targets: dict[str, str | Path] = {
        "link": canary / "canary",
        "dangling": "nowhere",
        "dirlink": canary,
    }
    if kind == "file":
        path.touch()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    else:
        path.symlink_to(targets[kind])

    delete(str(path), recursive=recursive)

    assert not os.path.lexists(path)
    assert (canary / "canary").read_text() == "alive"


def test_a_trailing_slash_does_not_follow_a_link(tmp_path: Path, canary: Path) -> None:
    (tmp_path / "link").symlink_to(canary)

    delete(f"{tmp_path}/link/", recursive=True)

    assert (canary / "canary").read_text() == "alive"
    assert not os.path.lexists(tmp_path / "link")


@pytest.mark.parametrize("full", [False, True])
def test_a_directory_is_removed_only_when_asked_for(tmp_path: Path, full: bool) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    if full:
        (directory / "x").touch()

    with pytest.raises(InvalidRequestError, match="without recursive flag"):
        delete(str(directory), recursive=False)

    assert directory.is_dir()


def test_a_tree_goes_and_nothing_that_its_links_lead_to(
    tmp_path: Path, canary: Path
) -> None:
    root = tmp_path / "root"
    (root / "a/b").mkdir(parents=True)
    (root / "a/file").touch()
    (root / "a/link").symlink_to(canary)
    (root / "a/b/up").symlink_to("..")
    os.mkfifo(root / "a/b/fifo")
    (root / os.fsdecode(b"\xff")).mkdir()

    delete(str(root), recursive=True)

    assert not root.exists()
    assert (canary / "canary").read_text() == "alive"


def test_a_tree_deeper_than_any_path_is_removed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    fd = os.open(root, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("directory-name", dir_fd=fd)
        below = os.open("directory-name", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)

    delete(str(root), recursive=True)

    assert not root.exists()


@pytest.mark.parametrize("path", ["/", "//", ".", "..", "sub/.", "sub/.."])
def test_the_root_and_dots_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InvalidPathError):
        delete(path, recursive=True)

    assert (tmp_path / "sub").is_dir()


@pytest.mark.parametrize("recursive", [False, True])
def test_what_is_missing_is_not_found(tmp_path: Path, recursive: bool) -> None:
    with pytest.raises(FileNotFoundError):
        delete(f"{tmp_path}/nowhere", recursive=recursive)


@pytest.mark.root
@pytest.mark.parametrize("name", ["m", "with space"])
def test_a_mount_point_keeps_everything_below_it(tmp_path: Path, name: str) -> None:
    mounted = tmp_path / "root" / name
    mounted.mkdir(parents=True)
    (tmp_path / "root/aaa").touch()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mounted], check=True)
    try:
        (mounted / "canary").touch()

        for path in (mounted, tmp_path / "root"):
            with pytest.raises(ConflictError, match="mounted"):
                delete(str(path), recursive=True)

        assert str(mounted) in mount_points()
        assert (mounted / "canary").exists()
        assert (tmp_path / "root/aaa").exists()
    finally:
        subprocess.run(["umount", mounted], check=True)


def test_others_adding_entries_end_in_success_or_conflict(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "busy").mkdir(parents=True)
    stop = threading.Event()

    def add() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                (root / "busy" / f"{number}").touch()
            except OSError:
                return

    adder = threading.Thread(target=add)
    adder.start()
    try:
        delete(str(root), recursive=True)
        gone = True
    except OSError:
        gone = False
    finally:
        stop.set()
        adder.join()

    assert gone is not root.exists()


def test_a_directory_of_many_subdirectories_takes_one_pass(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number in range(300):
        (root / f"{number}").mkdir(parents=True)
        (root / f"{number}/x").touch()

    delete(str(root), recursive=True)

    assert not root.exists()
