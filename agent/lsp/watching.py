"""What changed on the disk of a project since it was last asked (man 7 inotify).

Servers read a file once, and then believe what they are told of it. Agents edit files that
are not open in any editor, and ask the moment after. So what is told must be what was so
when the question came: the system puts a word into a queue before a write returns, and the
queue is emptied here before each question. (What watchfiles gives comes some 50 ms later.)

The words in the queue only say where to look; what changed is told by what is there.
Everything but `is_quiet` looks at the disk and blocks.
"""

import array
import errno
import fcntl
import os
import stat
import struct
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

CREATED, CHANGED, DELETED = 1, 2, 3
"""LSP 3.17, `FileChangeType`."""

DIRECTORIES_MAX = 10_000
"""Watched in one project, those nearest to its root; each costs the system 1 KiB."""
FILES_MAX = 100_000
GONE_MAX = 64
"""Directories that went at once; from there on everything is looked at again."""
RESTS = 20
"""Where nothing can be watched, looking takes at most one part in so many of the time."""
SETTINGS = (".toml", ".json", ".jsonc", ".cfg", ".ini", ".mod", ".pth")
"""Ends of names of files by which projects are set up, whatever their language."""
SKIPPED = frozenset({"__pycache__", "__pypackages__"})
PACKAGES = {"node_modules": "package.json", "site-packages": "__init__.py"}
"""Directories of what others wrote, and what in each entry says that it is there. They are
not entered any deeper, for what is in them comes and goes whole."""

_CREATE, _DELETE, _MOVED_FROM, _MOVED_TO = 0x100, 0x200, 0x40, 0x80
_MODIFY, _ATTRIB, _OVERFLOW, _IGNORED, _IS_DIR = 0x2, 0x4, 0x4000, 0x8000, 0x40000000
_ONLY_DIR, _EXCL_UNLINK = 0x01000000, 0x04000000
_WATCHED = _CREATE | _DELETE | _MOVED_FROM | _MOVED_TO | _MODIFY | _ATTRIB
_WATCHED |= _ONLY_DIR | _EXCL_UNLINK
_HEAD = struct.Struct("iIII")
_READ_BYTES = 256 * 1024

Stamp = tuple[int, int, int]
"""Modified, size, inode."""


@dataclass(frozen=True)
class Change:
    """A file that is not what it was.

    Attributes:
        path: Its absolute path.
        kind: One of the above.
    """

    path: str
    kind: int


class Watch:
    """Watches a project; `begin` it, and `close` it.

    Args:
        root: Its directory.
        suffixes: Ends of the names that count.
    """

    def __init__(self, root: str, suffixes: tuple[str, ...]) -> None:
        self._root = root
        self._suffixes = (*suffixes, *SETTINGS)
        self._fd = -1
        self._is_blind = True
        self._rest_until = 0.0
        self._stamps: dict[str, Stamp] = {}
        self._paths: dict[int, str] = {}
        self._numbers: dict[str, int] = {}
        self._before: dict[str, Stamp | None] = {}
        self._written: set[str] = set()

    @property
    def is_whole(self) -> bool:
        """All of the project is watched, so that what it does not tell did not happen."""
        if self._is_blind or len(self._stamps) >= FILES_MAX:
            return False
        return len(self._numbers) < DIRECTORIES_MAX

    def begin(self) -> None:
        """Take in what there is."""
        self._look_at_all()
        self._before.clear()

    def close(self) -> None:
        """Watch no more."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self._is_blind = True

    def is_quiet(self) -> bool:
        """Tell whether nothing has happened since the last look; takes microseconds."""
        if self._is_blind:
            return time.monotonic() < self._rest_until
        waiting = array.array("i", [0])
        fcntl.ioctl(self._fd, termios.FIONREAD, waiting)
        return waiting[0] == 0

    def changes(self) -> list[Change]:
        """Return what changed since the last look."""
        self._before.clear()
        self._written.clear()
        gone, there = self._read()
        if self._is_blind or len(gone) > GONE_MAX:
            self._look_at_all()
        else:
            # First what went, for a directory that moved keeps its number.
            for path in gone:
                self._forget(path)
            for path in there:
                self._look(path)
        return list(self._difference())

    def _difference(self) -> Iterator[Change]:
        for path, old in self._before.items():
            now = self._stamps.get(path)
            if now is None and old is not None:
                yield Change(path, DELETED)
            elif now is not None and old is None:
                yield Change(path, CREATED)
            # Of equal stamps too: two writes within one tick of the clock have the same.
            elif now != old or (now is not None and path in self._written):
                yield Change(path, CHANGED)

    # -- the queue ----------------------------------------------------------------

    def _read(self) -> tuple[set[str], set[str]]:
        """Return the directories that went, and all paths to look at."""
        gone: set[str] = set()
        there: set[str] = set()
        while not self._is_blind:
            try:
                content = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                break
            for number, mask, name in _events(content):
                directory = self._paths.get(number)
                if mask & (_OVERFLOW | _IGNORED):
                    self._lose(number, directory)
                elif directory is not None and name:
                    self._take(directory, name, mask, gone, there)
        return gone, there

    def _lose(self, number: int, directory: str | None) -> None:
        """Note that a watch ended by itself, or that the queue was full."""
        if directory is not None and self._numbers.get(directory) == number:
            del self._numbers[directory]
        self._paths.pop(number, None)
        # Without its root there is nothing that could tell of a new one.
        self._is_blind = self._is_blind or number < 0 or directory == self._root

    def _take(
        self, directory: str, name: str, mask: int, gone: set[str], there: set[str]
    ) -> None:
        path = f"{directory}/{name}"
        if _holds_packages(directory):
            there.add(directory)
        elif mask & _IS_DIR:
            if mask & (_DELETE | _MOVED_FROM):
                gone.add(path)
            if mask & ~_ATTRIB & ~_IS_DIR:
                there.add(path)
        elif name.endswith(self._suffixes):
            there.add(path)
            if mask & _MODIFY:
                self._written.add(path)

    # -- the disk -----------------------------------------------------------------

    def _look_at_all(self) -> None:
        began = time.monotonic()
        self.close()
        self._paths.clear()
        self._numbers.clear()
        before, self._stamps = self._stamps, {}
        self._before = dict(before)
        self._fd = _open()
        self._is_blind = self._fd < 0
        self._enter(self._root)
        now = time.monotonic()
        self._is_blind = self._is_blind or self._root not in self._numbers
        self._rest_until = now + (now - began) * RESTS

    def _forget(self, root: str) -> None:
        inside = root + "/"
        for path in [p for p in self._numbers if p == root or p.startswith(inside)]:
            number = self._numbers.pop(path)
            self._paths.pop(number, None)
            _unwatch(self._fd, number)
        for path in [each for each in self._stamps if each.startswith(inside)]:
            self._set(path, None)

    def _look(self, path: str) -> None:
        try:
            status = os.stat(path)
            is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
        except OSError:
            self._set(path, None)
            return
        if not is_directory:
            self._set(path, _stamp(status) if stat.S_ISREG(status.st_mode) else None)
        elif _is_entered(os.path.basename(path)):
            self._enter(path)

    def _enter(self, root: str) -> None:
        """Watch a directory and what is below, the nearest first, and take it in."""
        level = [root]
        while level:
            below: list[str] = []
            for directory in level:
                # Before it is read: what comes after that is told.
                self._watch(directory)
                if _holds_packages(directory):
                    self._take_packages(directory)
                else:
                    below += self._take_entries(directory)
            level = below

    def _take_entries(self, directory: str) -> Iterator[str]:
        for entry in _entries(directory):
            try:
                if entry.is_dir(follow_symlinks=False):
                    if _is_entered(entry.name):
                        yield entry.path
                elif entry.name.endswith(self._suffixes) and entry.is_file():
                    self._set(entry.path, _stamp(entry.stat()))
            except OSError:
                # Gone meanwhile, which is told.
                continue

    def _take_packages(self, directory: str) -> None:
        """Take in which packages are here, by a file of each."""
        home = directory if not _is_scope(directory) else os.path.dirname(directory)
        sign = PACKAGES[os.path.basename(home)]
        inside, found = directory + "/", set()
        for entry in _entries(directory):
            if entry.name.startswith("@") and entry.is_dir():
                self._watch(entry.path)
                self._take_packages(entry.path)
                continue
            # Some servers look for the file, some for the directory.
            for path in (entry.path, f"{entry.path}/{sign}"):
                try:
                    self._set(path, _stamp(os.stat(path)))
                except OSError:
                    continue
                found.add(path)
        for path in [each for each in self._stamps if each.startswith(inside)]:
            if path not in found and not path[len(inside) :].startswith("@"):
                self._set(path, None)

    def _watch(self, directory: str) -> None:
        if self._is_blind or len(self._numbers) >= DIRECTORIES_MAX:
            return
        number = _watch(self._fd, directory)
        if number is None:
            # The system has no more room; then it is looked at again and again.
            self._is_blind = True
        elif number >= 0:
            self._paths[number] = directory
            self._numbers[directory] = number

    def _set(self, path: str, stamp: Stamp | None) -> None:
        self._before.setdefault(path, self._stamps.get(path))
        if stamp is None:
            self._stamps.pop(path, None)
        elif path in self._stamps or len(self._stamps) < FILES_MAX:
            self._stamps[path] = stamp


def _is_entered(name: str) -> bool:
    # Of what is hidden, only a virtual environment is anybody's code.
    return name not in SKIPPED and (not name.startswith(".") or name == ".venv")


def _holds_packages(directory: str) -> bool:
    return os.path.basename(directory) in PACKAGES or _is_scope(directory)


def _is_scope(directory: str) -> bool:
    """Tell whether a directory is one of those of npm that only hold packages."""
    head, name = os.path.split(directory)
    return name.startswith("@") and os.path.basename(head) == "node_modules"


def _entries(directory: str) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(directory))
    except OSError:
        return []


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_mtime_ns, status.st_size, status.st_ino


def _events(content: bytes) -> Iterator[tuple[int, int, str]]:
    at = 0
    while at < len(content):
        number, mask, _, length = _HEAD.unpack_from(content, at)
        at += _HEAD.size
        yield number, mask, os.fsdecode(content[at : at + length].rstrip(b"\0"))
        at += length


@lru_cache(maxsize=1)
def _library() -> "ctypes.CDLL":
    # By the first use: it takes some milliseconds.
    import ctypes  # noqa: PLC0415

    library = ctypes.CDLL(None, use_errno=True)
    number, path = ctypes.c_int, ctypes.c_char_p
    library.inotify_add_watch.argtypes = (number, path, ctypes.c_uint32)
    library.inotify_rm_watch.argtypes = (number, number)
    return library


def _open() -> int:
    """Return a new queue, or -1 when the system gives none."""
    return int(_library().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))


def _watch(fd: int, directory: str) -> int | None:
    """Return a watch's number; -1: the directory cannot be; None: there is no room."""
    import ctypes  # noqa: PLC0415 - as above

    number = int(_library().inotify_add_watch(fd, os.fsencode(directory), _WATCHED))
    if number < 0 and ctypes.get_errno() in {errno.ENOSPC, errno.ENOMEM}:
        return None
    return number


def _unwatch(fd: int, number: int) -> None:
    _library().inotify_rm_watch(fd, number)
