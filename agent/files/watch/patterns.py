"""Chooses the paths that a listener wants to hear of, by globs.

A pattern without a slash is for one name: `*.py`. One with a slash is for the whole path
below what is watched, `**` standing for any number of directories: `src/**/*.py`. What an
`exclude` pattern names is left out with all that is below it. Nothing here can take long,
whatever the pattern: a name is matched in linear time, and `**` by a table.
"""

import fnmatch
import re
from collections.abc import Sequence

from agent.errors import InvalidRequestError

PATTERNS_MAX = 32
"""Patterns in one parameter: each is tried on each event."""
PATTERN_CHARACTERS_MAX = 256
"""Of one pattern: a name has at most 255 bytes."""

Glob = tuple[re.Pattern[str] | None, ...]
"""A pattern's parts; None is `**`."""


class Choice:
    """The paths that two lists of globs choose.

    Args:
        include: Globs with commas between them; empty chooses everything.
        exclude: The same, of what is left out.

    Raises:
        InvalidRequestError: There are too many, or one is too long.
    """

    def __init__(self, include: str = "", exclude: str = "") -> None:
        self._include = _globs("include", include)
        self._exclude = _globs("exclude", exclude)

    def takes(self, path: str) -> bool:
        """Tell whether a path, relative to what is watched, is chosen."""
        parts = path.split("/")
        if self._include and not any(_fits(each, parts) for each in self._include):
            return False
        return not any(
            _fits(glob, parts[:end])
            for glob in self._exclude
            for end in range(1, len(parts) + 1)
        )


def _globs(name: str, given: str) -> list[Glob]:
    patterns = [each for each in given.split(",") if each]
    if len(patterns) > PATTERNS_MAX:
        raise InvalidRequestError(f"{name}: more than {PATTERNS_MAX} patterns")
    return [_glob(name, each) for each in patterns]


def _glob(name: str, pattern: str) -> Glob:
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        raise InvalidRequestError(
            f"{name}: a pattern has more than {PATTERN_CHARACTERS_MAX} characters"
        )
    if "/" not in pattern:
        pattern = "**/" + pattern
    parts = pattern.strip("/").split("/")
    try:
        return tuple(None if each == "**" else _part(each) for each in parts)
    except re.error as error:
        raise InvalidRequestError(f"{name}: malformed pattern: {pattern}") from error


def _part(part: str) -> re.Pattern[str]:
    # What it translates `*` to never goes back, so that no pattern takes long.
    return re.compile(fnmatch.translate(part))


def _fits(glob: Glob, parts: Sequence[str]) -> bool:
    """Tell whether the whole path fits, a row of the table for each part of the glob."""
    reached = [True, *[False] * len(parts)]
    for wanted in glob:
        if wanted is None:
            for at in range(1, len(reached)):
                reached[at] = reached[at] or reached[at - 1]
            continue
        reached = [
            False,
            *(
                before and wanted.match(part) is not None
                for before, part in zip(reached, parts, strict=False)
            ),
        ]
    return reached[-1]
