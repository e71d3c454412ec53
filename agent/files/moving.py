"""Moves entries: a new name on the same file system, a copy to another.

Nothing is ever overwritten (contract 10 §9). To another file system the entry is copied
to a temporary name beside the destination, which is renamed once all of it is there;
only then the source is deleted. So a failure, or a kill, leaves the source; the journal
knows the temporary name, and the next agent removes what stands there.
"""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress

from agent.errors import AgentError, ConflictError, InvalidPathError
from agent.files.copying import Copy
from agent.files.deletion import delete, mount_points
from agent.files.journal import Journal, temporary_name
from agent.files.paths import Paths, tell_as, told_as
from agent.files.renames import rename_new

Rename = Callable[[str, str], None]


class Move:
    """One move.

    Args:
        paths: How paths resolve.
        journal: Remembers the temporary name.
        rename: Gives an entry a name that is free, or raises as `rename_new` does.
    """

    def __init__(
        self, paths: Paths, journal: Journal, rename: Rename = rename_new
    ) -> None:
        self._paths = paths
        self._journal = journal
        self._rename = rename

    def make(self, source: str, destination: str) -> str | None:
        """Move the entry `source`, a link itself, to the free name `destination`.

        Returns why the source could not be deleted after all of it was copied.

        Raises:
            ConflictError: Something stands at the destination, or is in the way.
            InvalidPathError: A directory would go into itself; the root; `.` or `..`.
            OSError: One of the two is missing, or the system refuses.
        """
        with told_as(source):
            old = _named(self._paths.resolve(source), source)
            # Follows links: one that leads nowhere counts as missing (contract §9).
            os.stat(old)
            is_dir = stat.S_ISDIR(os.lstat(old).st_mode)
        with told_as(destination):
            new = self._paths.resolve(destination)
            new = new.rstrip("/") or "/"
            parent = os.path.realpath(os.path.dirname(new))
            if not stat.S_ISDIR(os.stat(parent).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if os.path.lexists(new):
                raise _taken()
            _named(new, destination)
        if is_dir and _is_within(parent, os.path.realpath(old)):
            raise InvalidPathError(
                f"invalid file path: {destination} is inside {source}, which cannot be"
                " moved into itself"
            )
        try:
            with told_as(source):
                self._rename(old, new)
        except FileExistsError as error:
            raise _taken() from error
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            return self._move_by_copy(old, new, source, destination)
        return None

    def _move_by_copy(
        self, old: str, new: str, source: str, destination: str
    ) -> str | None:
        _refuse_mounts(old)
        name = temporary_name()
        temporary = os.path.join(os.path.dirname(new), name)
        self._journal.note(name, temporary)
        try:
            Copy(old, temporary).make()
            self._rename(temporary, new)
        except BaseException as error:
            if isinstance(error, OSError):
                at_source = str(error.filename).startswith(old)
                tell_as(error, source if at_source else destination)
            with suppress(FileNotFoundError):
                delete(temporary, recursive=True)
            self._journal.forget(name)
            if isinstance(error, FileExistsError):
                raise _taken() from error
            raise
        self._journal.forget(name)
        try:
            with told_as(source):
                delete(old, recursive=True)
        except (OSError, AgentError) as error:
            return str(error)
        return None


def _named(path: str, given: str) -> str:
    """Return `path` without slashes at its end, which would make the system follow it."""
    path = path.rstrip("/") or "/"
    if os.path.basename(path) in {"", ".", ".."}:
        raise InvalidPathError(
            f"invalid file path: name the entry itself, and not the root: {given}"
        )
    return path


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _refuse_mounts(path: str) -> None:
    parent, name = os.path.split(path)
    real = os.path.join(os.path.realpath(parent), name)
    for mounted in mount_points():
        if _is_within(mounted, real):
            raise ConflictError(
                f"a file system is mounted at {mounted}; unmount it first"
            )


def _taken() -> ConflictError:
    return ConflictError("destination already exists")
