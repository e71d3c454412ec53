"""The state directory: logs of kept jobs, spools of long outputs, scripts.

`<state>/jobs/<job>/{output.log,index,exit.json}` stays until the job is forgotten;
`<state>/spool/` is emptied at every start. All is 0700/0600 and no link is followed.
Whatever is missing is made again when it is needed, because user code may delete it.
"""

import json
import os
import stat
import time

from agent.keeper.frames import Header
from agent.keeper.log import say

LOST_JOBS_KEPT = 64
"""Directories of jobs of earlier keepers; of more, the oldest are removed."""

_FLAGS = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_RDWR


class StateError(Exception):
    """The state directory cannot be used; the message is one clear line."""


class State:
    """The state directory and what is in it.

    Args:
        path: Its absolute path.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._jobs = os.path.join(path, "jobs")
        self._spool = os.path.join(path, "spool")

    def open(self) -> None:
        """Make or check the directory, and clear what an earlier life left.

        Raises:
            StateError: It is a link, somebody else's, or cannot be made.
        """
        try:
            self._make()
            for name in os.listdir(self._spool):
                _discard(os.path.join(self._spool, name))
            self._bury()
        except OSError as error:
            raise StateError(
                f"state directory {self.path}: {error.strerror or error}"
            ) from error

    def spool_path(self, name: str) -> str:
        """Return the path of a file that does not outlive the keeper."""
        return os.path.join(self._spool, name)

    def job_path(self, job_id: str) -> str:
        """Return the directory of a kept job."""
        return os.path.join(self._jobs, job_id)

    def make_job(self, job_id: str) -> None:
        """Make a kept job's directory, empty."""
        path = self.job_path(job_id)
        try:
            os.mkdir(path, 0o700)
        except FileNotFoundError:
            self._make()
            os.mkdir(path, 0o700)
        except FileExistsError:
            self.drop_job(job_id)
            os.mkdir(path, 0o700)

    def create(self, path: str) -> int:
        """Create a file for reading and writing and return its descriptor."""
        try:
            return os.open(path, _FLAGS, 0o600)
        except FileNotFoundError:
            self._make()
            return os.open(path, _FLAGS, 0o600)

    def make_directory(self, path: str) -> None:
        """Make a directory that is not kept; does nothing when it is there."""
        try:
            os.mkdir(path, 0o700)
        except FileNotFoundError:
            self._make()
            os.mkdir(path, 0o700)
        except FileExistsError:
            _check(path)

    def drop(self, path: str) -> None:
        """Remove a file or a directory; it may be gone already."""
        _discard(path)

    def drop_job(self, job_id: str) -> None:
        """Remove a kept job's directory; it may be gone already."""
        _discard(self.job_path(job_id))

    def _make(self) -> None:
        """Make the directories that are missing; refuse what is not ours."""
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        for path in (self.path, self._jobs, self._spool):
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                _check(path)

    def _bury(self) -> None:
        """Give jobs of an earlier keeper that have no end the end `lost`."""
        found = sorted(
            (entry.stat(follow_symlinks=False).st_mtime, entry.path)
            for entry in os.scandir(self._jobs)
        )
        for _, path in found[:-LOST_JOBS_KEPT]:
            _discard(path)
        for _, path in found[-LOST_JOBS_KEPT:]:
            if not os.path.lexists(os.path.join(path, "exit.json")):
                _mark_lost(path)


def write_exit(directory: str, record: Header) -> None:
    """Publish an exit record: whole or not at all.

    Raises:
        OSError: It could not be written.
    """
    path = os.path.join(directory, "exit.json")
    temporary = path + ".new"
    fd = os.open(
        temporary,
        os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC,
        0o600,
    )
    try:
        content = json.dumps(record).encode()
        if os.write(fd, content) != len(content):
            raise OSError("disk full")
    finally:
        os.close(fd)
    os.rename(temporary, path)


def _mark_lost(path: str) -> None:
    try:
        record: Header = {
            "exit_code": -1,
            "signal": 0,
            "reason": "lost",
            "ended": time.time(),
        }
        write_exit(path, record)
    except OSError as error:
        say("warning", f"{path}: {error}")


def _check(path: str) -> None:
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise StateError(
            f"state directory {path} is not a directory (links are refused)"
        )
    if found.st_uid != os.geteuid():
        raise StateError(f"state directory {path} belongs to another user")
    if stat.S_IMODE(found.st_mode) & 0o077:
        os.chmod(path, 0o700)


def _discard(path: str) -> None:
    """Remove a file or a whole directory, as far as possible, following no link."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        # unlink(2) on a directory is EISDIR on Linux, EPERM by POSIX.
        _discard_directory(path)
    except OSError as error:
        say("warning", f"cannot remove {path}: {error}")


def _discard_directory(path: str) -> None:
    try:
        for entry in os.scandir(path):
            os.unlink(entry.path)
        os.rmdir(path)
    except OSError:
        # Something else than our few files is in there: somebody else's, and rare.
        import shutil  # noqa: PLC0415 - 2 ms of the start

        shutil.rmtree(path, ignore_errors=True)
