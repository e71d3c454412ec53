"""Makes changes of several files true all together, whatever happens on the way.

Each set of changes has a directory below the state directory:

    <state dir>/edits/<id>/0, 1, …   what the files held before
                           plan      what is to be made, before anything is
                           commit    the same file, renamed once all new content stands
                                     beside its target: from here on it goes forward
                           done      renamed again at the end; kept, to undo it

A process that dies before `commit` has changed no file: whoever comes next removes its
temporary files. One that dies after it is finished by the next, file by file, unless
somebody changed one of the files meanwhile: then those that were done go back. Every file
is replaced by a rename, so nobody ever sees a mix in one file. As with uploads, nothing
is flushed: the promise is about killed processes, not about power cuts.

One at a time, held by a lock on a file that the system drops when its holder dies.
"""

import errno
import fcntl
import logging
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import msgspec

from agent.errors import ConflictError, NotFoundError
from agent.files.deletion import delete, mount_points
from agent.files.directories import make_directories
from agent.files.edits.view import Kept, Seen, identity_of, look_at
from agent.files.hashes import sha256_of
from agent.files.journal import temporary_name
from agent.files.paths import tell_as

log = logging.getLogger("agent.files")

UNDO_MAX = 100
"""Sets of changes that can be undone; the oldest go first."""
UNDO_MAX_BYTES = 256 * 1024 * 1024
"""What the old contents may take on the disk."""

_ID = r"[0-9a-f]{16}-([0-9a-f]{1,12})-[0-9a-f]{16}"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAN, _COMMIT, _DONE = "plan", "commit", "done"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One file that changes. Paths are bytes, as names are.

    A hash that is None: the file is not there. `temporary` is empty when it goes away.
    """

    given: bytes
    path: bytes
    before: str | None
    before_kept: Kept | None
    after: str | None
    after_kept: Kept | None
    temporary: bytes


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A set of changes, and the directories that were made for it."""

    changes: list[Change]
    directories: list[bytes]


class EditJournal:
    """The sets of changes of one state directory. Everything here blocks.

    Args:
        state_dir: The agent's state directory.
    """

    def __init__(self, state_dir: str) -> None:
        self.directory = os.path.join(state_dir, "edits")

    @property
    def exists(self) -> bool:
        """Whether there may be anything to recover."""
        return os.path.isdir(self.directory)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other process from changing anything here while inside."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        found = os.lstat(self.directory)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "somebody else's", self.directory)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(os.path.join(self.directory, "lock"), flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def make(self, files: Sequence[Seen]) -> str:
        """Make the changes of `files` true; return the id by which to undo them.

        Raises:
            ConflictError: A file changed meanwhile, or cannot be replaced.
            OSError: The system refuses; then everything is as it was.
        """
        _refuse_mounts(files)
        size_bytes = sum(len(each.before or b"") for each in files)
        name = f"{time.time_ns():016x}-{size_bytes:x}-{os.urandom(8).hex()}"
        work = _Work(os.path.join(self.directory, name), _record_of(files))
        work.begin([each.before for each in files])
        try:
            work.stage(files)
            _check_unchanged(files)
            work.step(_PLAN, _COMMIT)
        except BaseException:
            work.drop()
            raise
        try:
            for number, seen in enumerate(files):
                _check_unchanged([seen])
                with _told_as(seen.given):
                    work.apply(number)
        except BaseException:
            work.revert()
            raise
        work.step(_COMMIT, _DONE)
        return name

    def read(self, name: str) -> tuple[Record, list[bytes | None]]:
        """Return a set of changes that was made, and what the files held before it.

        Raises:
            NotFoundError: There is none of this id, or not any more.
        """
        # Whatever is no id names nothing, least of all something elsewhere.
        directory = os.path.join(self.directory, name if _size_text(name) else "none")
        try:
            record = _read_record(os.path.join(directory, _DONE))
            return record, [
                None if change.before is None else _read(f"{directory}/{number}")
                for number, change in enumerate(record.changes)
            ]
        except (FileNotFoundError, msgspec.DecodeError) as error:
            raise NotFoundError(f"no edit to undo: {name}") from error

    def forget(self, name: str) -> None:
        """Remove a set of changes: it can be undone no more."""
        with suppress(OSError):
            delete(os.path.join(self.directory, name), recursive=True)

    def prune(self) -> None:
        """Remove the oldest sets of changes beyond the bounds."""
        kept_bytes = 0
        names: list[str] = []
        with suppress(OSError):
            names = sorted(filter(_size_text, os.listdir(self.directory)))
        for number, name in enumerate(reversed(names)):
            kept_bytes += int(_size_text(name), 16)
            if number >= UNDO_MAX or kept_bytes > UNDO_MAX_BYTES:
                self.forget(name)

    def recover(self) -> None:
        """Finish, or take back, what processes that died were about."""
        for name in sorted(filter(_size_text, os.listdir(self.directory))):
            directory = os.path.join(self.directory, name)
            steps = set(os.listdir(directory))
            try:
                if _COMMIT in steps:
                    _Work(directory, _read_record(f"{directory}/{_COMMIT}")).finish()
                elif _PLAN in steps:
                    _Work(directory, _read_record(f"{directory}/{_PLAN}")).drop()
                elif _DONE not in steps:
                    self.forget(name)
            except (OSError, msgspec.DecodeError):
                log.exception("edit %s of an agent that died cannot be recovered", name)


class _Work:
    """One set of changes on its way.

    Args:
        directory: Where it is written down.
        record: What changes.
    """

    def __init__(self, directory: str, record: Record) -> None:
        self._directory = directory
        self._record = record

    def begin(self, befores: Sequence[bytes | None]) -> None:
        """Write down what the files held, and what is to be made."""
        os.mkdir(self._directory, 0o700)
        try:
            for number, content in enumerate(befores):
                if content is not None:
                    _write(f"{self._directory}/{number}", content)
            text = msgspec.json.encode(self._record)
            _write(f"{self._directory}/new", text)
            self.step("new", _PLAN)
        except BaseException:
            delete(self._directory, recursive=True)
            raise

    def step(self, old: str, new: str) -> None:
        """Go one step on."""
        os.rename(f"{self._directory}/{old}", f"{self._directory}/{new}")

    def stage(self, files: Sequence[Seen]) -> None:
        """Store all new content beside its targets."""
        for seen, change in zip(files, self._record.changes, strict=True):
            if seen.content is not None:
                with _told_as(seen.given):
                    make_directories(os.path.dirname(seen.path))
                    _store(os.fsdecode(change.temporary), seen.content, seen.kept)

    def apply(self, number: int) -> None:
        """Let one file be what it is to be."""
        change = self._record.changes[number]
        if change.after is None:
            os.unlink(change.path)
        else:
            os.rename(change.temporary, change.path)

    def drop(self) -> None:
        """Remove all that was made for changes that did not come true."""
        self._drop_temporaries()
        for directory in reversed(self._record.directories):
            with suppress(OSError):
                os.rmdir(directory)
        delete(self._directory, recursive=True)

    def revert(self) -> None:
        """Take back what came true, but for files that somebody changed since."""
        # First of all, because the disk may be full.
        self._drop_temporaries()
        for number, change in enumerate(self._record.changes):
            if change.before != change.after and _hash(change.path) == change.after:
                self._put_back(number, change)
        self.drop()

    def _put_back(self, number: int, change: Change) -> None:
        if change.before is None:
            with suppress(FileNotFoundError):
                os.unlink(change.path)
            return
        temporary = _beside(os.fsdecode(change.path))
        content = _read(f"{self._directory}/{number}")
        try:
            _store(temporary, content, change.before_kept)
            os.rename(temporary, change.path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise

    def finish(self) -> None:
        """Make true what is not yet, or take all back when somebody interfered."""
        for number, change in enumerate(self._record.changes):
            now = _hash(change.path)
            if now == change.after:
                continue
            if now != change.before or not self._can_apply(change):
                log.warning("an edit was taken back: a file of it changed meanwhile")
                self.revert()
                return
            self.apply(number)
        self._drop_temporaries()
        self.step(_COMMIT, _DONE)
        log.warning("finished an edit of an agent that was killed")

    def _drop_temporaries(self) -> None:
        for change in self._record.changes:
            with suppress(OSError):
                if change.temporary:
                    os.unlink(change.temporary)

    def _can_apply(self, change: Change) -> bool:
        return change.after is None or _hash(change.temporary) == change.after


def _record_of(files: Sequence[Seen]) -> Record:
    directories: list[str] = []
    changes: list[Change] = []
    for seen in files:
        if seen.content is not None:
            new = _missing(os.path.dirname(seen.path))
            directories += [each for each in new if each not in directories]
        after = None if seen.content is None else sha256_of(seen.content)
        temporary = "" if after is None else _beside(seen.path)
        changes.append(
            Change(
                given=os.fsencode(seen.given),
                path=os.fsencode(seen.path),
                before=sha256_of(seen.found.content) if seen.found else None,
                before_kept=seen.found.kept if seen.found else None,
                after=after,
                after_kept=seen.kept,
                temporary=os.fsencode(temporary),
            )
        )
    return Record(changes=changes, directories=list(map(os.fsencode, directories)))


def _missing(directory: str) -> list[str]:
    """Return the directories that have to be made for `directory`, uppermost first."""
    missing: list[str] = []
    while not os.path.lexists(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    return missing[::-1]


def _beside(path: str) -> str:
    return os.path.join(os.path.dirname(path), temporary_name())


def _check_unchanged(files: Sequence[Seen]) -> None:
    for seen in files:
        try:
            now = identity_of(os.lstat(seen.path))
        except FileNotFoundError:
            now = ()
        if now != (seen.found.identity if seen.found else ()):
            raise ConflictError(f"{seen.given}: somebody else changed it meanwhile")


def _refuse_mounts(files: Sequence[Seen]) -> None:
    mounted = set(mount_points())
    for seen in files:
        if seen.path in mounted:
            raise ConflictError(
                f"{seen.given}: a file that is mounted cannot be replaced in one step"
            )


def _store(path: str, content: bytes, kept: Kept | None) -> None:
    """Store a new file with all that it is to be."""
    # Until it has the mode of the file that it replaces, nobody else may look.
    fd = os.open(path, _NEW, 0o666 if kept is None else 0o600)
    try:
        _write_all(fd, content)
        if kept is not None:
            new = os.fstat(fd)
            if (new.st_uid, new.st_gid) != (kept.uid, kept.gid):
                os.fchown(fd, kept.uid, kept.gid)
            for name, value in kept.attributes.items():
                os.setxattr(fd, name, value)
            # Last, because a change of owner takes bits away.
            os.fchmod(fd, kept.mode)
    finally:
        os.close(fd)


def _write(path: str, content: bytes) -> None:
    fd = os.open(path, _NEW, 0o600)
    try:
        _write_all(fd, content)
    finally:
        os.close(fd)


def _write_all(fd: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _read_record(path: str) -> Record:
    return msgspec.json.decode(_read(path), type=Record)


def _hash(path: bytes) -> str | None:
    """Return the hash of a file; "" when it is none that an edit could have left."""
    try:
        found = look_at(os.fsdecode(path), "")
    except FileNotFoundError:
        return None
    except Exception:  # noqa: BLE001 - whatever it is, it is neither old nor new
        return ""
    return sha256_of(found.content)


def _size_text(name: str) -> str:
    match = re.fullmatch(_ID, name, re.ASCII)
    return match[1] if match else ""


@contextmanager
def _told_as(given: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        tell_as(error, given)
        raise
