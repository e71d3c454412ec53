"""Heeds `.gitignore` files, from the root of the search down (man 5 gitignore).

Patterns that are malformed ignore nothing. `.git` itself is always left out.
"""

import os
import re
from typing import NamedTuple

FILE_MAX_BYTES = 1024 * 1024
"""Of one `.gitignore` file; of a larger one the beginning."""


class _Rule(NamedTuple):
    """One line: what it matches, and what that means."""

    matches: re.Pattern[str]
    keeps: bool
    directories_only: bool
    by_path: bool


class Ignoring:
    """The rules in force where a walk is.

    Args:
        root: The absolute path of the walk's root.
    """

    def __init__(self, root: str) -> None:
        self._root = os.fsencode(root)
        self._levels: list[tuple[int, list[_Rule]]] = []

    def enter(self, prefix: bytes) -> None:
        """Go into a directory, whose entries' paths begin with `prefix`."""
        path = self._root + b"/" + prefix + b".gitignore"
        self._levels.append((len(prefix), _rules(path)))

    def leave(self) -> None:
        """Go back to the directory above."""
        self._levels.pop()

    def ignores(self, path: bytes, name: bytes, *, is_directory: bool) -> bool:
        """Tell whether an entry is ignored."""
        if name == b".git":
            return True
        for prefix_size, rules in reversed(self._levels):
            if not rules:
                continue
            below = os.fsdecode(path[prefix_size:])
            base = os.fsdecode(name)
            for rule in reversed(rules):
                if rule.directories_only and not is_directory:
                    continue
                if rule.matches.fullmatch(below if rule.by_path else base):
                    return not rule.keeps
        return False


def _rules(path: bytes) -> list[_Rule]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        text = os.read(fd, FILE_MAX_BYTES)
    except OSError:
        return []
    finally:
        os.close(fd)
    lines = text.decode("utf-8", "surrogateescape").split("\n")
    return [rule for line in lines if (rule := _rule(line.removesuffix("\r")))]


def _rule(line: str) -> _Rule | None:
    if line.startswith("#"):
        return None
    line = re.sub(r"(?<!\\)\s+$", "", line)
    keeps = line.startswith("!")
    line = line.removeprefix("!")
    directories_only = line.endswith("/")
    line = line.removesuffix("/")
    if not line:
        return None
    by_path = "/" in line
    try:
        matches = re.compile(_expression(line.removeprefix("/")), re.DOTALL)
    except re.error:
        return None
    return _Rule(matches, keeps, directories_only, by_path)


_TOKEN = re.compile(
    r"(?P<inner>(?<=/)\*\*/)|(?P<first>^\*\*/)|(?P<last>(?<=/)\*\*$)"
    r"|(?P<run>\*+)|(?P<one>\?)|(?P<set>\[[!^]?\]?(?:\\.|[^]\\])*\])|(?P<quoted>\\.)|(?P<plain>.)",
    re.DOTALL,
)
_FIXED = {"inner": "(?:.*/)?", "first": "(?:.*/)?", "last": ".+", "run": "[^/]*"}


def _expression(pattern: str) -> str:
    pieces = []
    for token in _TOKEN.finditer(pattern):
        kind, text = token.lastgroup or "", token[0]
        if kind == "one":
            pieces.append("[^/]")
        elif kind == "set":
            pieces.append(_set(text))
        elif kind in _FIXED:
            pieces.append(_FIXED[kind])
        else:
            pieces.append(re.escape(text[-1]))
    return "".join(pieces)


def _set(text: str) -> str:
    inside = text[1:-1]
    negated = inside[:1] in {"!", "^"}
    inside = inside[negated:].replace("[", "\\[")
    if inside.startswith("]"):
        inside = "\\" + inside
    return f"(?!/)[{'^' if negated else ''}{inside}]"
