"""Globs: what they choose, and that none takes long."""

import time

import pytest

from agent.errors import InvalidRequestError
from agent.files.watch.patterns import Choice


@pytest.mark.parametrize(
    ("include", "exclude", "path", "taken"),
    [
        ("", "", "a/b", True),
        ("*.py", "", "a/b.py", True),
        ("*.py", "", "b.pyc", False),
        ("a/*.py", "", "a/b.py", True),
        ("a/*.py", "", "a/c/b.py", False),
        ("a/**/*.py", "", "a/c/d/b.py", True),
        ("a/**/*.py", "", "a/b.py", True),
        ("/b", "", "a/b", False),
        ("x,b", "", "a/b", True),
        ("[ab]?", "", "b1", True),
        ("", "node_modules", "x/node_modules/y/z", False),
        ("", "a/**", "a/b", False),
        ("", "b/c", "b/c/d", False),
        ("", "b/c", "a/b/c", True),
        ("*.py", "test_*", "test_a.py", False),
        ("[", "", "[", True),
        ("*", "", "\udcff", True),
    ],
)
def test_globs_choose(include: str, exclude: str, path: str, *, taken: bool) -> None:
    assert Choice(include, exclude).takes(path) is taken


def test_no_pattern_takes_long() -> None:
    choice = Choice("*a" * 120 + "b," + "/".join(["**", "*a*a"] * 25) + "/b")
    path = "/".join(["a" * 80] * 50)

    started = time.thread_time()
    assert not choice.takes(path)

    assert time.thread_time() - started < 0.5


@pytest.mark.parametrize("given", [",".join("abc" * 11), "a" * 257])
def test_patterns_are_bounded(given: str) -> None:
    with pytest.raises(InvalidRequestError):
        Choice(given)
