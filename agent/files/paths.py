"""The one place that turns a path from a caller into the path that is opened.

Nothing is confined: the agent's authority is its user. Names are bytes; in text they are
kept by `surrogateescape`, so every name can be said and none becomes another.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from agent.errors import InvalidPathError


class Paths:
    """Resolves the paths of callers.

    Args:
        work_dir: The absolute directory that relative paths start from.
    """

    def __init__(self, work_dir: str) -> None:
        self.work_dir = work_dir

    def resolve(self, path: str) -> str:
        """Return the absolute path that `path` names; links are not resolved.

        `~` and `~/…` mean the home directory, unless an entry named `~` exists in the
        work dir. May look at the disk for paths that begin with `~`, and only then.

        Raises:
            InvalidPathError: It holds a NUL byte, which no name can.
        """
        if "\0" in path:
            raise InvalidPathError("invalid file path: it contains a NUL byte")
        if is_home_path(path) and not os.path.lexists(self._join("~")):
            return os.path.expanduser(path)
        return self._join(path)

    def _join(self, path: str) -> str:
        return path if path.startswith("/") else f"{self.work_dir}/{path}"


def is_home_path(path: str) -> bool:
    """Tell whether `path` may mean the home directory."""
    return path == "~" or path.startswith("~/")


def base_name(path: str) -> str:
    """Return the last name in `path` as it was given: `.` for `.`, `/` for `/`."""
    return path.rstrip("/").rpartition("/")[2] or "/"


def shown_root(path: str) -> str:
    """Return what the paths of entries below `path` begin with, slash included."""
    cleaned = os.path.normpath(path)
    if cleaned == ".":
        return ""
    # POSIX lets two leading slashes mean something of their own; here they do not.
    cleaned = "/" + cleaned.lstrip("/") if cleaned.startswith("/") else cleaned
    return cleaned if cleaned.endswith("/") else cleaned + "/"


@contextmanager
def told_as(path: str) -> Iterator[None]:
    """Let every `OSError` raised inside name the path as the client gave it."""
    try:
        yield
    except OSError as error:
        tell_as(error, path)
        raise


def tell_as(error: OSError, path: str) -> None:
    """Let `error` name the path as the client gave it."""
    error.filename = path
    error.filename2 = None
