"""Whoever believes the events knows the tree: what is where, and what may have changed."""

import contextlib
import itertools
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

NAMES = st.sampled_from(["a", "b", "a/a", "a/b", "b/a", "b/b", "a/b/a", "b/a/b", "c"])
ACTIONS = st.one_of(
    st.tuples(st.sampled_from(["write", "mkdir", "remove"]), NAMES, st.just("")),
    st.tuples(st.sampled_from(["rename", "rename", "link"]), NAMES, NAMES),
)
BURSTS = st.lists(st.lists(ACTIONS, min_size=1, max_size=8), min_size=1, max_size=4)

Action = tuple[str, str, str]
_versions = itertools.count()


class Reader:
    """Believes what the program that watches says.

    Attributes:
        files: What the files hold, as far as it was worth reading; None: a directory.
        moves: How many moves there were.
    """

    def __init__(self, root: Path, lines: IO[bytes]) -> None:
        self.root = root
        self.files: dict[str, str | None] = {}
        self.moves = 0
        self._unread: set[str] = set()
        self._lines = lines
        self._sentinels = 0

    def catch_up(self) -> None:
        """Take all that was said until now, the second looks into directories, too."""
        for _ in range(2):
            self._sentinels += 1
            sentinel = f"sentinel-{self._sentinels}"
            (self.root / sentinel).touch()
            while sentinel not in self.files:
                for event in json.loads(self._lines.readline())["events"]:
                    self._take(*event)
        for path in self._unread & self.files.keys():
            self.files[path] = content_of(self.root / path)
        self._unread.clear()

    def _take(self, kind: str, path: str, source: str) -> None:
        if kind == "created":
            assert path.rpartition("/")[0] in {"", *self.files}
            self.files[path] = None
            self._unread.add(path)
        elif kind == "modified":
            self._unread.add(path)
        elif kind == "deleted":
            self._move(path, None)
        else:
            assert kind == "moved"
            assert source in self.files
            self.moves += 1
            self._move(path, None)
            self._move(source, path)

    def _move(self, source: str, path: str | None) -> None:
        below = source + "/"
        for each in list(self.files):
            if each == source or each.startswith(below):
                unread = each in self._unread
                self._unread.discard(each)
                content = self.files.pop(each)
                if path is not None:
                    self.files[path + each[len(source) :]] = content
                    if unread:
                        self._unread.add(path + each[len(source) :])


def content_of(path: Path) -> str | None:
    return None if path.is_dir() else path.read_text()


def tree_of(root: Path) -> dict[str, str | None]:
    return {str(p.relative_to(root)): content_of(p) for p in root.rglob("*")}


def act(root: Path, action: Action) -> None:
    """Do one thing, or nothing where it cannot be done."""
    kind, name, other = action
    path = root / name
    with contextlib.suppress(OSError):
        match kind:
            case "write":
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.is_file() and path.stat().st_nlink > 1:
                    # Only this one of its names would be told of.
                    path.unlink()
                path.write_text(str(next(_versions)))
            case "mkdir":
                path.mkdir(parents=True)
            case "remove" if path.is_dir():
                shutil.rmtree(path)
            case "remove":
                path.unlink()
            case "rename":
                (root / other).parent.mkdir(parents=True, exist_ok=True)
                path.rename(root / other)
            case "link":
                (root / other).hardlink_to(path)
            case _:
                raise AssertionError(kind)


@contextlib.contextmanager
def watching(root: Path) -> Iterator[IO[bytes]]:
    """Run the program; give what it says."""
    master, slave = pty.openpty()
    words = [sys.executable, "-m", "agent.files.watch.program", str(root), "1"]
    with (
        os.fdopen(master, "rb", 0) as lines,
        subprocess.Popen(words, stdout=slave) as child,
    ):
        os.close(slave)
        assert json.loads(lines.readline()) == {"ready": True}
        try:
            yield lines
        finally:
            child.kill()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Reader]]:
    """Return a function that gives a reader of a new tree."""
    with contextlib.ExitStack() as stack:
        numbers = itertools.count()

        def begin() -> Reader:
            root = tmp_path / str(next(numbers))
            root.mkdir()
            return Reader(root, stack.enter_context(watching(root)))

        yield begin


def play(reader: Reader, bursts: list[list[Action]]) -> None:
    for burst in bursts:
        for action in burst:
            act(reader.root, action)
        reader.catch_up()
        assert reader.files == tree_of(reader.root)


def check(reader: Reader, examples: int) -> None:
    # Not shrunk: every example takes a moment, for the system's events have to come.
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(BURSTS)
    def run(bursts: list[list[Action]]) -> None:
        for name in "abc":
            act(reader.root, ("remove", name, ""))
        # What an example before this one got wrong is not this one's fault.
        reader.files = tree_of(reader.root)
        for name in ("a/a", "a/b/a", "b/a"):
            act(reader.root, ("write", name, ""))
        play(reader, [[], *bursts])

    run()


@pytest.mark.timeout(30)
def test_the_events_tell_what_became_of_the_tree(start: Callable[[], Reader]) -> None:
    reader = start()

    check(reader, 15)

    assert reader.moves


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_events_tell_what_became_of_many_trees(
    start: Callable[[], Reader],
) -> None:
    reader = start()

    check(reader, 500)

    assert reader.moves > 100
