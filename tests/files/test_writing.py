"""A file is replaced as a whole and stays what it was: links, mode, owner, attributes."""

import errno
import os
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.errors import InvalidPathError
from agent.files.journal import Journal
from agent.files.paths import Paths
from agent.files.writing import Upload, follow

from .conftest import strays

pytestmark = pytest.mark.usefixtures("all_closed")

INODES = 16
Make = Callable[[str], Upload]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    directory = tmp_path / "work"
    directory.mkdir()
    return directory


@pytest.fixture
def make(tmp_path: Path, work: Path) -> Iterator[Make]:
    state = tmp_path / "state"
    journal = Journal(str(state))
    yield lambda path: Upload(Paths(str(work)), path, journal, str(state / "uploads"))
    assert strays(tmp_path) == []
    journal.close()
    assert list((state / "uploads").glob("*")) == []


def store(upload: Upload, *pieces: bytes) -> None:
    """Do what a whole upload does."""
    try:
        upload.open()
        upload.write(pieces)
        if not upload.commit():
            upload.fill_in_place()
    finally:
        upload.discard()


@contextmanager
def unprivileged() -> Iterator[None]:
    """Do without root's rights, for this thread and its children."""
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def test_a_new_file_has_the_mode_of_the_umask(work: Path, make: Make) -> None:
    before = os.umask(0o027)
    try:
        store(make("a"), b"con", b"", b"tent")
    finally:
        os.umask(before)

    assert (work / "a").read_bytes() == b"content"
    assert stat.S_IMODE((work / "a").stat().st_mode) == 0o640


def test_missing_parents_are_made(work: Path, make: Make) -> None:
    store(make("x/y/a"), b"content")

    assert (work / "x/y/a").read_bytes() == b"content"
    assert stat.S_IMODE((work / "x/y").stat().st_mode) == 0o755


def test_nothing_is_seen_before_the_commit(work: Path, make: Make) -> None:
    (work / "a").write_bytes(b"old")
    upload = make("a")
    upload.open()
    upload.write([b"new"])

    seen = (work / "a").read_bytes()
    upload.commit()
    upload.discard()

    assert (seen, (work / "a").read_bytes()) == (b"old", b"new")


def test_a_discarded_upload_changes_nothing(work: Path, make: Make) -> None:
    (work / "a").write_bytes(b"old")
    for path in ("a", "b"):
        upload = make(path)
        upload.open()
        upload.write([b"new"])
        upload.discard()

    assert [(each.name, each.read_bytes()) for each in work.iterdir()] == [
        ("a", b"old")
    ]


def test_a_reader_of_the_old_file_keeps_it_whole(work: Path, make: Make) -> None:
    (work / "a").write_bytes(b"old content")
    with (work / "a").open("rb") as reader:
        store(make("a"), b"new")

        assert reader.read() == b"old content"


@pytest.mark.parametrize("mode", [0o600, 0o755, 0o4711, 0o666, 0o222])
def test_an_existing_file_keeps_its_mode(work: Path, make: Make, mode: int) -> None:
    (work / "a").touch()
    (work / "a").chmod(mode)

    store(make("a"), b"new")

    assert stat.S_IMODE((work / "a").stat().st_mode) == mode
    assert (work / "a").read_bytes() == b"new"


@pytest.mark.root
def test_an_existing_file_keeps_its_owner(work: Path, make: Make) -> None:
    (work / "a").touch()
    os.chown(work / "a", 1234, 5678)
    (work / "a").chmod(0o6755)

    store(make("a"), b"new")

    found = (work / "a").stat()
    assert (found.st_uid, found.st_gid) == (1234, 5678)
    assert stat.S_IMODE(found.st_mode) == 0o6755


def test_an_existing_file_keeps_its_attributes(work: Path, make: Make) -> None:
    (work / "a").touch()
    os.setxattr(work / "a", "user.note", b"\0kept\xff")

    store(make("a"), b"new")

    assert os.getxattr(work / "a", "user.note") == b"\0kept\xff"


@pytest.mark.parametrize("kind", ["file", "dangling", "chain", "other directory"])
def test_links_are_written_through(work: Path, make: Make, kind: str) -> None:
    (work / "d").mkdir()
    target = work / ("d/target" if kind == "other directory" else "target")
    if kind != "dangling":
        target.write_bytes(b"old")
    (work / "a").symlink_to("b" if kind == "chain" else target)
    (work / "b").symlink_to("target")

    store(make("a"), b"new")

    assert (work / "a").is_symlink()
    assert target.read_bytes() == b"new"
    assert not target.is_symlink()


def test_a_relative_link_starts_where_it_stands(work: Path, make: Make) -> None:
    (work / "real/sub").mkdir(parents=True)
    (work / "way").symlink_to("real/sub")
    (work / "real/sub/a").symlink_to("../target")

    store(make("way/a"), b"new")

    assert (work / "real/target").read_bytes() == b"new"


def test_a_link_that_leads_to_itself_is_an_error(work: Path, make: Make) -> None:
    (work / "a").symlink_to("b")
    (work / "b").symlink_to("a")

    with pytest.raises(OSError, match="Too many levels") as caught:
        store(make("a"), b"new")

    assert caught.value.errno == errno.ELOOP


def test_hard_links_stay_one_file(work: Path, make: Make) -> None:
    (work / "a").write_bytes(b"old content")
    (work / "b").hardlink_to(work / "a")

    for content in (b"longer than the old content", b"short", b""):
        store(make("a"), content)

        assert (work / "b").read_bytes() == content
        assert (work / "a").samefile(work / "b")


def test_a_discarded_upload_leaves_hard_links_alone(work: Path, make: Make) -> None:
    (work / "a").write_bytes(b"old")
    (work / "b").hardlink_to(work / "a")
    upload = make("a")
    upload.open()
    upload.write([b"new"])
    upload.discard()

    assert (work / "b").read_bytes() == b"old"


@pytest.mark.parametrize(
    "path", ["d", "d/", "link", ".", "..", "/", "new/", "new/.", "new/.."]
)
def test_a_directory_is_no_destination(work: Path, make: Make, path: str) -> None:
    (work / "d").mkdir()
    (work / "link").symlink_to("d")

    with pytest.raises(IsADirectoryError):
        store(make(path), b"new")

    assert not (work / "new").exists()


def test_a_part_of_the_path_that_is_a_file_is_an_error(work: Path, make: Make) -> None:
    (work / "file").touch()

    with pytest.raises(NotADirectoryError):
        store(make("file/a"), b"new")


def test_a_fifo_is_refused_without_waiting(work: Path, make: Make) -> None:
    os.mkfifo(work / "fifo")

    with pytest.raises(InvalidPathError, match="not a regular file: fifo"):
        store(make("fifo"), b"new")


def test_devices_are_written_directly(make: Make) -> None:
    store(make("/dev/null"), b"new", b"content")

    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    with pytest.raises(OSError, match="No space left") as caught:
        store(make("/dev/full"), b"new")
    assert caught.value.errno == errno.ENOSPC


def test_a_very_long_name_works_and_a_longer_one_is_refused(
    work: Path, make: Make
) -> None:
    store(make("n" * 255), b"new")

    assert (work / ("n" * 255)).read_bytes() == b"new"
    with pytest.raises(OSError, match="too long") as caught:
        store(make("n" * 256), b"new")
    assert caught.value.errno == errno.ENAMETOOLONG


def test_many_pieces_are_written_in_their_order(work: Path, make: Make) -> None:
    pieces = [bytes([number % 256]) * (number % 7) for number in range(3000)]

    store(make("a"), *pieces)

    assert (work / "a").read_bytes() == b"".join(pieces)


def let_others_in(directory: Path) -> None:
    """Let other users through to a directory that pytest made for this one only."""
    base = Path(tempfile.gettempdir())
    for each in (directory, *directory.parents):
        if each.is_relative_to(base) and each != base:
            each.chmod(each.stat().st_mode | 0o011)


@pytest.mark.root
def test_a_directory_that_may_not_be_written_to_gets_its_file_in_place(
    tmp_path: Path, work: Path, make: Make
) -> None:
    (tmp_path / "state/uploads").mkdir(parents=True)
    let_others_in(tmp_path)
    os.chown(tmp_path / "state/uploads", 65534, 65534)
    (work / "a").write_bytes(b"old")
    os.chown(work / "a", 65534, 65534)
    inode = (work / "a").stat().st_ino

    with unprivileged():
        store(make("a"), b"new content")
        with pytest.raises(PermissionError):
            store(make("b"), b"new")

    assert (work / "a").read_bytes() == b"new content"
    assert (work / "a").stat().st_ino == inode
    assert not (work / "b").exists()


@pytest.mark.root
def test_a_file_that_is_read_only_is_refused(
    tmp_path: Path, work: Path, make: Make
) -> None:
    let_others_in(tmp_path)
    (work / "a").write_bytes(b"old")
    (work / "a").chmod(0o444)
    work.chmod(0o777)

    with unprivileged(), pytest.raises(PermissionError):
        store(make("a"), b"new")

    assert (work / "a").read_bytes() == b"old"


@pytest.mark.root
def test_a_file_of_another_owner_keeps_him(
    tmp_path: Path, work: Path, make: Make
) -> None:
    let_others_in(tmp_path)
    (work / "a").write_bytes(b"old")
    os.chown(work / "a", 1234, 1234)
    (work / "a").chmod(0o666)
    work.chmod(0o777)

    with unprivileged():
        store(make("a"), b"new")

    assert (work / "a").read_bytes() == b"new"
    assert (work / "a").stat().st_uid == 1234


@pytest.mark.root
def test_a_file_that_is_a_mount_is_filled_in_place(work: Path, make: Make) -> None:
    (work / "a").write_bytes(b"placeholder")
    (work / "source").write_bytes(b"old")
    subprocess.run(["mount", "--bind", work / "source", work / "a"], check=True)
    try:
        store(make("a"), b"new content")
    finally:
        subprocess.run(["umount", work / "a"], check=True)

    assert (work / "source").read_bytes() == b"new content"
    assert (work / "a").read_bytes() == b"placeholder"


@pytest.fixture
def small_disk(work: Path) -> Iterator[Path]:
    disk = work / "disk"
    disk.mkdir()
    options = f"size=1m,nr_inodes={INODES}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.root
@pytest.mark.parametrize("linked", [False, True])
def test_a_full_disk_leaves_the_old_content(
    small_disk: Path, make: Make, linked: bool
) -> None:
    old = os.urandom(600 * 1024)
    (small_disk / "a").write_bytes(old)
    if linked:
        (small_disk / "b").hardlink_to(small_disk / "a")

    with pytest.raises(OSError, match="No space left") as caught:
        store(make("disk/a"), b"x" * 2_000_000)

    assert caught.value.errno == errno.ENOSPC
    assert (small_disk / "a").read_bytes() == old
    assert strays(small_disk) == []


@pytest.mark.root
def test_space_is_taken_before_a_file_is_filled_in_place(
    work: Path, small_disk: Path, make: Make
) -> None:
    # The content is stored outside and does not fit where it belongs.
    old = os.urandom(100 * 1024)
    (small_disk / "a").write_bytes(old)
    (small_disk / "rest").write_bytes(b"x" * 800 * 1024)
    (work / "target").write_bytes(b"")
    subprocess.run(["mount", "--bind", small_disk / "a", work / "target"], check=True)
    try:
        with pytest.raises(OSError, match="No space left"):
            store(make("target"), b"y" * 500 * 1024)
    finally:
        subprocess.run(["umount", work / "target"], check=True)

    assert (small_disk / "a").read_bytes() == old


@pytest.mark.root
def test_a_disk_without_inodes_is_full_too(small_disk: Path, make: Make) -> None:
    (small_disk / "a").write_bytes(b"old")
    used = len(list(small_disk.iterdir())) + 1
    for number in range(INODES - used):
        (small_disk / f"{number}").touch()

    with pytest.raises(OSError, match="No space left"):
        store(make("disk/a"), b"new")

    assert (small_disk / "a").read_bytes() == b"old"


@pytest.mark.root
def test_a_read_only_file_system_is_told(work: Path, make: Make) -> None:
    disk = work / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], check=True)
    try:
        (disk / "a").write_bytes(b"old")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)

        for path in ("disk/a", "disk/b", "disk/c/d"):
            with pytest.raises(OSError) as caught:  # noqa: PT011 - the number tells
                store(make(path), b"new")
            assert caught.value.errno in {errno.EROFS, errno.EACCES}
        assert (disk / "a").read_bytes() == b"old"
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_failing_close_is_an_error_and_keeps_the_old_content(
    work: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "a").write_bytes(b"old")
    upload = make("a")
    upload.open()
    upload.write([b"new"])
    close, failing = os.close, upload._fd

    def fail_once(fd: int) -> None:
        close(fd)
        if fd == failing:
            # What a network file system says when the content did not arrive.
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", fail_once)
        with pytest.raises(OSError, match="Input/output"):
            upload.commit()
    upload.discard()

    assert upload.step == "close"
    assert (work / "a").read_bytes() == b"old"


def test_a_directory_that_moves_takes_the_upload_along(work: Path, make: Make) -> None:
    (work / "d").mkdir()
    upload = make("d/a")
    upload.open()
    upload.write([b"new"])
    (work / "d").rename(work / "e")

    upload.commit()
    upload.discard()

    assert (work / "e/a").read_bytes() == b"new"


def test_following_ends_where_nothing_is(work: Path) -> None:
    (work / "a").symlink_to("b/c")

    assert follow(f"{work}/a") == (f"{work}/b/c", None)
