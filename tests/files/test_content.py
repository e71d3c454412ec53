"""Opening never blocks, and only regular files are opened."""

import os
import socket
import threading
from pathlib import Path

import pytest

from agent.errors import InvalidPathError
from agent.files.content import open_content

pytestmark = pytest.mark.usefixtures("all_closed")


def test_a_file_is_read_from_any_offset(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    content = open_content(f"{tmp_path}/a", "a")

    pieces = [content.read(0, 3), content.read(8, 10), content.read(20, 5)]

    content.close()
    assert pieces == [b"012", b"89", b""]


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "link").symlink_to("a")

    content = open_content(f"{tmp_path}/link", "link")

    assert content.read_cached() == b"x"
    content.close()
    content.close()


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "linked fifo"])
def test_what_could_block_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = str(tmp_path / "x")
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)
    elif kind == "device":
        path = "/dev/zero"
    else:
        os.mkfifo(path)
        if kind == "linked fifo":
            (tmp_path / "link").symlink_to("x")
            path = f"{tmp_path}/link"

    with pytest.raises(InvalidPathError, match="not a regular file: given"):
        open_content(path, "given")


def test_a_writer_that_waits_for_a_reader_is_not_woken(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    opened = threading.Event()

    def write() -> None:
        fd = os.open(path, os.O_WRONLY)
        opened.set()
        os.close(fd)

    writer = threading.Thread(target=write)
    writer.start()
    with pytest.raises(InvalidPathError):
        open_content(str(path), "fifo")
    woken = opened.is_set()
    os.close(os.open(path, os.O_RDONLY))
    writer.join()

    assert not woken


def test_a_directory_is_refused_with_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as caught:
        open_content(str(tmp_path), "given")

    assert caught.value.filename == "given"


def test_what_is_missing_is_told_as_given(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")

    for name in ("missing", "dangling"):
        with pytest.raises(FileNotFoundError) as caught:
            open_content(f"{tmp_path}/{name}", name)
        assert caught.value.filename == name


def test_a_file_that_became_shorter_is_not_called_cached(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    content = open_content(str(path), "a")
    path.write_bytes(b"01")

    assert content.read_cached() is None
    assert content.read(0, 10) == b"01"
    content.close()


def test_virtual_files_have_content_whatever_their_size() -> None:
    content = open_content("/proc/self/status", "status")

    assert content.is_virtual
    assert content.read(0, 100_000).startswith(b"Name:")
    content.close()
