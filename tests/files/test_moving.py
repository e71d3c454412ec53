"""Moves end with the entry in one place: the new one, or where it was."""

import errno
import hashlib
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import AgentError, ConflictError, InvalidPathError
from agent.files.copying import Copy
from agent.files.deletion import delete
from agent.files.directories import make_directories
from agent.files.journal import Journal
from agent.files.moving import Move
from agent.files.paths import Paths
from tests.files.conftest import Agent, failure, strays

MIB = 1024 * 1024


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def move(tmp_path: Path, work: Path) -> Iterator[Move]:
    journal = Journal(str(tmp_path / "state"))
    yield Move(Paths(str(work)), journal)
    journal.close()
    assert list((tmp_path / "state").glob("uploads/*")) == []
    assert strays(tmp_path) == []


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Give a small file system of its own."""
    directory = tmp_path / "disk"
    directory.mkdir()
    options = "size=1m,nr_inodes=100"
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], check=True
    )
    yield directory
    subprocess.run(["umount", directory], check=True)


def test_a_tree_gets_a_new_name(work: Path, move: Move) -> None:
    (work / "a" / "b").mkdir(parents=True)
    inode = (work / "a").stat().st_ino

    assert move.make("a/", "c/") is None

    assert names(work) == ["c"]
    assert (work / "c").stat().st_ino == inode


def test_a_link_is_moved_itself(work: Path, move: Move) -> None:
    (work / "d").mkdir()
    (work / "link").symlink_to("d")

    move.make("link/", "moved")

    assert (work / "moved").readlink() == Path("d")
    assert (work / "d").is_dir()


@pytest.mark.parametrize("taken", ["file", "d", "dangling", "a"])
def test_a_destination_that_exists_is_a_conflict(
    work: Path, move: Move, taken: str
) -> None:
    (work / "a").write_text("moved")
    (work / "file").write_text("kept")
    (work / "d").mkdir()
    (work / "dangling").symlink_to("nowhere")

    with pytest.raises(ConflictError, match="destination already exists"):
        move.make("a", taken)

    assert (work / "a").read_text() == "moved"
    assert (work / "file").read_text() == "kept"
    assert names(work / "d") == []


@pytest.mark.parametrize(
    ("source", "destination", "named"),
    [
        ("none", "b", "none"),
        ("dangling", "b", "dangling"),
        ("file", "none/b", "none/b"),
        ("file", "", ""),
    ],
)
def test_what_is_missing_is_told_by_its_name(
    work: Path, move: Move, source: str, destination: str, named: str
) -> None:
    (work / "file").touch()
    (work / "dangling").symlink_to("nowhere")

    with pytest.raises((FileNotFoundError, ConflictError)) as raised:
        move.make(source, destination)

    if isinstance(raised.value, OSError):
        assert raised.value.filename == named
    assert (work / "file").exists()


@pytest.mark.parametrize("destination", ["d/x", "d/e/x", "link/x", "d/e/../x"])
def test_a_directory_does_not_go_into_itself(
    work: Path, move: Move, destination: str
) -> None:
    (work / "d" / "e").mkdir(parents=True)
    (work / "link").symlink_to("d/e")

    with pytest.raises(InvalidPathError, match="itself"):
        move.make("d", destination)

    assert names(work) == ["d", "link"]
    assert names(work / "d") == ["e"]
    assert names(work / "d" / "e") == []


@pytest.mark.parametrize("source", ["/", ".", "d/..", "d/."])
def test_what_has_no_name_cannot_be_moved(work: Path, move: Move, source: str) -> None:
    (work / "d").mkdir()

    with pytest.raises(InvalidPathError):
        move.make(source, "new")

    assert names(work) == ["d"]


def fill(tree: Path) -> None:
    """Make a tree with one of everything."""
    (tree / "d" / "empty").mkdir(parents=True)
    (tree / "d" / "file").write_text("content")
    (tree / "d" / "file").chmod(0o4751)
    os.chown(tree / "d" / "file", 12, 34)
    (tree / "d" / "file").chmod(0o4751)
    os.link(tree / "d" / "file", tree / "same")
    (tree / "link").symlink_to("../nowhere")
    os.lchown(tree / "link", 5, 6)
    os.mkfifo(tree / "pipe", 0o620)
    (tree / os.fsdecode(b"\xff")).write_bytes(b"\0" * 100)
    os.setxattr(tree / "same", "user.note", b"kept")
    with (tree / "sparse").open("wb") as file:
        file.truncate(64 * MIB)
        file.seek(32 * MIB)
        file.write(b"island")
    for path in (tree / "d" / "empty", tree / "d" / "file", tree / "d", tree):
        os.utime(path, ns=(1_000_000_001, 2_000_000_002))
    os.utime(tree / "link", ns=(5, 6), follow_symlinks=False)


def state(tree: Path) -> dict[str, object]:
    """Return all that a copy has to keep."""
    found: dict[str, object] = {}
    for path in [tree, *sorted(tree.rglob("*"))]:
        status = os.lstat(path)
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(status.st_mode):
            content = path.readlink()
        links = 0 if stat.S_ISDIR(status.st_mode) else status.st_nlink
        attributes = os.listxattr(path, follow_symlinks=False)
        found[str(path.relative_to(tree))] = (
            *(status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns),
            *(links, content, attributes),
        )
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to others")
def test_a_tree_on_another_file_system_is_the_same_tree(
    work: Path, move: Move, disk: Path
) -> None:
    fill(work / "tree")
    before = state(work / "tree")

    assert move.make("tree", f"{disk}/tree") is None

    assert state(disk / "tree") == before
    assert names(work) == []
    assert (disk / "tree" / "sparse").stat().st_blocks < 100


def test_a_full_disk_leaves_the_source_and_nothing_else(
    work: Path, move: Move, disk: Path
) -> None:
    (work / "tree").mkdir()
    (work / "tree" / "a").write_bytes(b"a" * 1000)
    (work / "tree" / "b").write_bytes(os.urandom(2 * MIB))
    before = state(work / "tree")

    with pytest.raises(OSError, match="No space") as raised:
        move.make("tree", f"{disk}/tree")

    assert raised.value.filename == f"{disk}/tree"
    assert state(work / "tree") == before
    assert names(disk) == []


def test_no_inodes_left_is_a_full_disk(work: Path, move: Move, disk: Path) -> None:
    (work / "tree").mkdir()
    for number in range(200):
        (work / "tree" / str(number)).touch()

    with pytest.raises(OSError, match="No space"):
        move.make("tree", f"{disk}/tree")

    assert len(names(work / "tree")) == 200
    assert names(disk) == []


def test_a_name_taken_during_the_copy_is_a_conflict(tmp_path: Path, work: Path) -> None:
    (work / "a").write_text("old")
    (work / "b").mkdir()

    def other_disk(source: str, _destination: str) -> None:
        if not source.startswith(str(work / "b")):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        (work / "b" / "new").write_text("somebody else was faster")
        raise FileExistsError

    journal = Journal(str(tmp_path / "state"))
    with pytest.raises(ConflictError):
        Move(Paths(str(work)), journal, other_disk).make("a", "b/new")
    journal.close()

    assert (work / "a").read_text() == "old"
    assert (work / "b" / "new").read_text() == "somebody else was faster"
    assert strays(work) == []


def test_a_tree_with_a_mount_in_it_stays(work: Path, move: Move, disk: Path) -> None:
    (work / "tree" / "mounted").mkdir(parents=True)
    subprocess.run(["mount", "--bind", disk, work / "tree" / "mounted"], check=True)
    try:
        with pytest.raises(ConflictError, match="mounted"):
            move.make("tree", f"{disk}/tree")
    finally:
        subprocess.run(["umount", work / "tree" / "mounted"], check=True)

    assert names(disk) == []
    assert names(work / "tree") == ["mounted"]


def test_a_source_that_cannot_be_deleted_is_told(
    work: Path, move: Move, disk: Path
) -> None:
    (disk / "source").write_text("content")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)

    left = move.make(f"{disk}/source", "moved")

    assert left is not None
    assert "Read-only" in left
    assert (work / "moved").read_text() == "content"
    assert (disk / "source").exists()


@pytest.mark.timeout(60)
def test_a_deep_tree_is_copied(tmp_path: Path) -> None:
    deep = "/".join(["d"] * 300)
    make_directories(f"{tmp_path}/a/{deep}")
    (tmp_path / "a" / deep / "leaf").write_text("found")

    Copy(f"{tmp_path}/a", f"{tmp_path}/b").make()

    assert (tmp_path / "b" / deep / "leaf").read_text() == "found"
    # What clears up after tests goes down by recursion.
    delete(f"{tmp_path}/a", recursive=True)
    delete(f"{tmp_path}/b", recursive=True)


KILLED = """
import sys, threading, os, signal
from agent.files.directories import make_directories
from agent.files.journal import Journal
from agent.files.moving import Move
from agent.files.paths import Paths
move = Move(Paths("/"), Journal(sys.argv[1]))
print("ready", flush=True)
move.make(sys.argv[2], sys.argv[3])
"""


@pytest.mark.timeout(60)
def test_a_killed_move_leaves_all_in_one_place_and_the_next_agent_clears_up(
    tmp_path: Path, work: Path
) -> None:
    (work / "tree").mkdir()
    for number in range(60):
        (work / "tree" / str(number)).write_bytes(os.urandom(400_000))
    before = state(work / "tree")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        words = [
            *(sys.executable, "-c", KILLED),
            *(f"{tmp_path}/state", f"{work}/tree", f"{other}/tree"),
        ]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            while not names(Path(other)):
                assert child.poll() is None
            child.kill()

        Journal(str(tmp_path / "state")).sweep()

        left = names(Path(other))
        assert left in ([], ["tree"])
        if left:
            assert state(Path(other) / "tree") == before
        else:
            assert state(work / "tree") == before


async def test_the_route_moves_and_answers_with_nothing(agent: Agent) -> None:
    (agent.work_dir / "a").write_text("moved")

    url = agent.at("/files/move", source="a", destination="b")
    async with agent.client.post(url) as response:
        assert (response.status, await response.read()) == (200, b"")
        assert response.headers["Content-Length"] == "0"

    assert (agent.work_dir / "b").read_text() == "moved"


async def test_names_are_bytes(agent: Agent) -> None:
    (agent.work_dir / os.fsdecode(b"\xff")).touch()

    url = agent.at("/files/move", source="%FF", destination="%FE%20b")
    async with agent.client.post(url) as response:
        assert response.status == 200

    assert names(agent.work_dir) == [os.fsdecode(b"\xfe b")]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"source": "a"}, (400, "BAD_REQUEST", "destination is required")),
        ({"destination": "a"}, (400, "BAD_REQUEST", "source is required")),
        (
            {"source": "no", "destination": "b"},
            (404, "FILE_NOT_FOUND", "file not found: no"),
        ),
        (
            {"source": "a", "destination": "no/b"},
            (404, "FILE_NOT_FOUND", "file not found: no/b"),
        ),
        (
            {"source": "a", "destination": "a/b"},
            (400, "INVALID_FILE_PATH", "invalid file path: not a directory: a/b"),
        ),
        (
            {"source": "a", "destination": "d"},
            (409, "CONFLICT", "destination already exists"),
        ),
        (
            {"source": "a", "destination": "%00"},
            (400, "INVALID_FILE_PATH", "invalid file path: it contains a NUL byte"),
        ),
        (
            {"source": "a", "destination": "/sys/b"},
            (403, "FILE_ACCESS_DENIED", None),
        ),
    ],
)
async def test_the_route_tells_what_is_wrong(
    agent: Agent, query: dict[str, str], told: tuple[int, str, str | None]
) -> None:
    (agent.work_dir / "a").touch()
    (agent.work_dir / "d").mkdir()

    async with agent.client.post(agent.at("/files/move", **query)) as response:
        status, code, message = await failure(response)

    assert (status, code) == told[:2]
    assert told[2] in {None, message}
    assert (agent.work_dir / "a").exists()


def test_errors_are_of_kinds_that_the_edge_knows(work: Path, move: Move) -> None:
    (work / "a").touch()

    with pytest.raises((OSError, AgentError)):
        move.make("a", "b" * 300)

    assert names(work) == ["a"]
