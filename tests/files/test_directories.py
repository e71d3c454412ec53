"""Directories and their parents."""

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import InvalidRequestError
from agent.files.deletion import delete
from agent.files.directories import make_directories, parse_mode


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize(
    ("text", "mode"),
    [("755", 0o755), ("0755", 0o755), ("0", 0), ("1777", 0o1777), ("02750", 0o2750)],
)
def test_octal_digits_are_a_mode(text: str, mode: int) -> None:
    assert parse_mode(text) == mode


@pytest.mark.parametrize(
    "text", ["0o755", "rwx", "8", "-1", "17777", "777777", " 755", "\u0667\u0665\u0665"]
)
def test_anything_else_is_no_mode(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="octal"):
        parse_mode(text)


@pytest.mark.usefixtures("open_umask")
@pytest.mark.parametrize("mode", [0o700, 0o777, 0o1777, 0o2775])
def test_the_mode_is_that_of_every_directory_made(tmp_path: Path, mode: int) -> None:
    make_directories(f"{tmp_path}/a/b/c", mode)

    for made in ("a", "a/b", "a/b/c"):
        assert stat.S_IMODE((tmp_path / made).stat().st_mode) == mode


def test_the_umask_applies(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        make_directories(f"{tmp_path}/a", 0o777)
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o750


@pytest.mark.parametrize("ending", ["", "/", "//"])
def test_existing_directories_stay_as_they_are(tmp_path: Path, ending: str) -> None:
    (tmp_path / "a").mkdir(0o711)
    (tmp_path / "link").symlink_to("a")

    make_directories(f"{tmp_path}/a{ending}", 0o755)
    make_directories(f"{tmp_path}/link{ending}", 0o755)
    make_directories("/", 0o755)

    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o711


def test_parts_that_go_back_up_are_made_too(tmp_path: Path) -> None:
    make_directories(f"{tmp_path}/a/../b")

    assert {each.name for each in tmp_path.iterdir()} == {"a", "b"}


@pytest.mark.parametrize(
    "path", ["file", "file/a", "file/a/b", "dangling", "dangling/a"]
)
def test_something_else_in_the_way_is_no_directory(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")

    with pytest.raises(NotADirectoryError):
        make_directories(f"{tmp_path}/{path}")

    assert not (tmp_path / "nowhere").exists()


def test_a_very_deep_directory_needs_no_recursion(tmp_path: Path) -> None:
    path = f"{tmp_path}/" + "a/" * 1500

    make_directories(path)

    made = Path(path).is_dir()
    # pytest clears up by recursion.
    delete(f"{tmp_path}/a", recursive=True)
    assert made


def test_many_makers_of_one_path_all_succeed(tmp_path: Path) -> None:
    failures: list[BaseException] = []
    start = threading.Barrier(16)

    def make() -> None:
        start.wait()
        try:
            make_directories(f"{tmp_path}/" + "deep/" * 20)
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=make) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
