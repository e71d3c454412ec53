"""How a caller's path becomes the one that is opened."""

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from agent.errors import InvalidPathError
from agent.files.paths import Paths, base_name, shown_root, told_as


@pytest.mark.parametrize(
    ("path", "resolved"),
    [("a", "/w/a"), ("./a", "/w/./a"), ("/etc", "/etc"), ("../x", "/w/../x"), ("~a", "/w/~a"), ("a/~", "/w/a/~")],
)  # fmt: skip
def test_relative_paths_start_from_the_work_dir(path: str, resolved: str) -> None:
    assert Paths("/w").resolve(path) == resolved


@pytest.mark.parametrize("path", ["~", "~/", "~/a/b"])
def test_tilde_is_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")

    assert Paths(str(tmp_path)).resolve(path) == "/home/somebody" + path[1:]


def test_an_entry_named_tilde_wins_over_the_home_directory(tmp_path: Path) -> None:
    (tmp_path / "~").symlink_to("nowhere")

    assert Paths(str(tmp_path)).resolve("~/a") == f"{tmp_path}/~/a"


def test_a_nul_byte_is_no_path() -> None:
    with pytest.raises(InvalidPathError, match="NUL"):
        Paths("/").resolve("a\0b")


@pytest.mark.parametrize(
    ("path", "name"),
    [("a", "a"), ("/a/b", "b"), ("a/", "a"), (".", "."), ("..", ".."), ("/", "/"), ("//", "/"), ("a/.", ".")],
)  # fmt: skip
def test_the_name_is_the_last_part_as_given(path: str, name: str) -> None:
    assert base_name(path) == name


@pytest.mark.parametrize(
    ("path", "shown"),
    [(".", ""), ("a", "a/"), ("./a//b/", "a/b/"), ("/", "/"), ("//x", "/x/"), ("a/../b", "b/"), ("..", "../"), ("~/x", "~/x/")],
)  # fmt: skip
def test_listed_paths_begin_with_the_cleaned_root(path: str, shown: str) -> None:
    assert shown_root(path) == shown


def test_errors_name_the_path_as_given() -> None:
    with pytest.raises(FileNotFoundError) as caught, told_as("a/b"):
        Path("/nowhere/at/all").rename("/x")

    assert (caught.value.filename, caught.value.filename2) == ("a/b", None)


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name))
def test_every_name_of_bytes_survives(name: bytes) -> None:
    text = name.decode("utf-8", "surrogateescape")

    resolved = Paths("/w").resolve("/" + text)

    assert resolved.encode("utf-8", "surrogateescape") == b"/" + name
