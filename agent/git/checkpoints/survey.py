"""Looks at every entry that may belong to the state of a directory, and sorts them.

Regular files and links are kept, with their modes and those of the directories they are
in; so are directories with nothing in them. Pipes, sockets and devices are not.
"""

import errno
import os
import re
import stat
from collections.abc import Iterable

import msgspec

from agent.errors import ConflictError, InvalidRequestError, TooLargeError
from agent.files.journal import PREFIX
from agent.git.checkpoints.manifest import Manifest, ManifestWriter
from agent.git.checkpoints.models import Reason

_MARK = PREFIX.encode()
_TEMPORARY = re.compile(rb"(?:^|/)" + re.escape(_MARK) + rb"[0-9a-f]{16}$")


class Limits(msgspec.Struct, frozen=True):
    """Bounds of one state."""

    file_bytes: int
    """A larger file is not kept."""
    state_bytes: int
    """A larger state is refused."""


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What belongs to a state, and what was left out of it."""

    paths: tuple[bytes, ...]
    size_bytes: int
    manifest: Manifest
    skipped: tuple[tuple[bytes, Reason], ...]


class Surveyor:
    """Looks at every entry once.

    Args:
        top: The directory, links resolved.
        limits: What is kept.
        private: The agent's own directory, which is never part of a state.
    """

    def __init__(self, top: bytes, limits: Limits, private: bytes) -> None:
        self._top = top
        self._front = top.rstrip(b"/") + b"/"
        self._limits = limits
        self._private = private.rstrip(b"/") + b"/"
        self._uid = os.geteuid()
        self._manifest = ManifestWriter()
        self._paths: list[bytes] = []
        self._skipped: list[tuple[bytes, Reason]] = []
        self._size_bytes = 0

    def survey(self, names: Iterable[bytes], forced: Iterable[bytes]) -> Survey:
        """Return the state that consists of `names`, and of `forced` with no excuse.

        Raises:
            ConflictError: One of `forced` cannot be kept.
            TooLargeError: The state is too large.
        """
        wanted = {*forced}
        directories: set[bytes] = set()
        for name in sorted({*names, *wanted}):
            if self._is_ours(name):
                continue
            reason = self._take(name)
            if reason is not None and name in wanted:
                raise ConflictError(f"in the way, and {reason}: {os.fsdecode(name)}")
            if reason is not None:
                self._skipped.append((name, reason))
                self._manifest.add_skipped(name)
        for place in {path.rpartition(b"/")[0] for path in self._paths}:
            above = place
            while above and above not in directories:
                directories.add(above)
                above = above.rpartition(b"/")[0]
        self._take_directories(directories)
        return Survey(
            paths=tuple(self._paths),
            size_bytes=self._size_bytes,
            manifest=self._manifest.finish(),
            skipped=tuple(self._skipped),
        )

    def _is_ours(self, name: bytes) -> bool:
        """Tell whether it is the agent's: its state, or a file on its way in."""
        if _MARK in name and _TEMPORARY.search(name):
            return True
        return (self._front + name).startswith(self._private)

    def _take(self, name: bytes) -> Reason | None:
        """Take one file or link into the state; return why not, if so."""
        place = self._front + name
        try:
            found = os.lstat(place)
        except OSError as error:
            # Gone since it was listed; only a name that cannot be used is worth a word.
            return "unreadable" if error.errno == errno.ENAMETOOLONG else None
        if stat.S_ISREG(found.st_mode):
            if found.st_size > self._limits.file_bytes:
                return "too large"
            if not self._is_readable(place, found):
                return "unreadable"
            self._size_bytes += found.st_size
            if self._size_bytes > self._limits.state_bytes:
                raise TooLargeError(
                    f"the directory has more than {self._limits.state_bytes} bytes"
                )
        elif not stat.S_ISLNK(found.st_mode):
            return None
        self._paths.append(name)
        self._manifest.add(name, found)
        return None

    def _is_readable(self, place: bytes, found: os.stat_result) -> bool:
        """Tell whether we may read a file; asks the system only where it must."""
        if found.st_uid == self._uid and found.st_mode & stat.S_IRUSR:
            return True
        return os.access(place, os.R_OK, effective_ids=True)

    def _take_directories(self, directories: set[bytes]) -> None:
        """Note the modes of directories, and those with nothing in them."""
        for directory in sorted({b"", *directories}):
            prefix = directory + b"/" if directory else b""
            place = os.path.join(self._top, directory)
            if directory:
                self._manifest.add(directory, os.lstat(place))
            with os.scandir(place) as entries:
                for entry in entries:
                    self._look(entry, prefix, directories)

    def _look(
        self, entry: "os.DirEntry[bytes]", prefix: bytes, directories: set[bytes]
    ) -> None:
        if entry.name == b".gitattributes":
            # Git would wait for ever for one that is a pipe.
            if not (entry.is_file(follow_symlinks=False) or entry.is_symlink()):
                shown = os.fsdecode(prefix + entry.name)
                raise InvalidRequestError(f"not a regular file: {shown}")
            return
        if entry.name == b".git" or not entry.is_dir(follow_symlinks=False):
            return
        path = prefix + entry.name
        if path not in directories and not self._is_ours(path + b"/"):
            self._take_empty(path)

    def _take_empty(self, top: bytes) -> None:
        """Note a tree of directories with nothing else in it."""
        front = [top]
        found: list[bytes] = []
        while front:
            path = front.pop()
            try:
                with os.scandir(os.path.join(self._top, path)) as entries:
                    for entry in entries:
                        is_directory = entry.is_dir(follow_symlinks=False)
                        if not is_directory or entry.name == b".git":
                            return
                        front.append(path + b"/" + entry.name)
            except OSError:
                return
            found.append(path)
        for path in found:
            self._manifest.add(path, os.lstat(os.path.join(self._top, path)))
            self._manifest.add_empty(path)
