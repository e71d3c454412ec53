"""What is remembered of a tree."""

from pathlib import Path

import pytest

from agent.files.watch.births import birth_of
from agent.files.watch.known import Known, now


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "d/e").mkdir(parents=True)
    for name in ("f", "d/g", "d/e/h"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("d")
    return tmp_path


def known(tree: Path, *, recursive: bool = True, bound: int = 100) -> Known:
    found = Known(str(tree), recursive=recursive, bound=bound)
    found.scan()
    return found


def test_every_entry_is_remembered_by_its_inode(tree: Path) -> None:
    found = known(tree)

    for path in tree.rglob("*"):
        entry = found.find(str(path.relative_to(tree)))
        assert entry is not None
        assert entry.inode == path.lstat().st_ino
        assert entry.is_dir == (path.is_dir() and not path.is_symlink())
    assert found.find("d/none") is found.find("f/none") is found.find("link/e") is None
    assert found.whole


def test_without_recursive_only_the_first_level_is_remembered(tree: Path) -> None:
    found = known(tree, recursive=False)

    assert found.find("d")
    assert not found.find("d/e")


def test_past_the_bound_the_deepest_are_not_remembered(tree: Path) -> None:
    found = known(tree, bound=5)

    assert found.find("d")
    assert not found.find("d/e/h")
    assert not found.whole
    assert known(tree, bound=6).whole


def test_what_is_forgotten_makes_room(tree: Path) -> None:
    found = known(tree, bound=6)
    found.drop("d")

    for name in ("1", "2", "3", "4"):
        found.put(name, 7, is_dir=False, since=1.0)
    assert found.whole
    found.put("5", 7, is_dir=False, since=1.0)

    assert not found.find("5")
    assert not found.whole


def test_what_is_below_moves_along(tree: Path) -> None:
    found = known(tree, bound=6)
    inode = (tree / "d/e/h").stat().st_ino

    found.move("d/e", "f", since=2.0)
    found.drop("d")
    found.put("new", 7, is_dir=False, since=1.0)

    moved = found.find("f/h")
    assert moved is not None
    assert moved.inode == inode
    assert found.names("f") == ["h"]
    assert not found.find("d/e/h")
    assert found.whole


def test_a_birth_is_told_by_the_clock_of_the_table(tmp_path: Path) -> None:
    before = now()
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to("none")
    after = now()

    for name in ("a", "link"):
        born = birth_of(str(tmp_path / name))
        assert born is not None
        assert before <= born <= after + 0.02
    assert birth_of(str(tmp_path / "none")) is None


def test_what_does_not_fit_is_healed_by_another_walk(tree: Path) -> None:
    found = known(tree)

    found.put("f/x", 7, is_dir=False, since=1.0)
    assert not found.whole
    assert not found.find("f/x")

    found.scan()
    assert found.whole
