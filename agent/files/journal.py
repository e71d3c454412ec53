"""Remembers the temporary files of running uploads, for the agent that comes after us.

An api process that is killed leaves its temporary files behind. Each process therefore
has a directory below the state directory, named for itself, with one symbolic link per
temporary file that leads to it: made before the file, removed after it. The next process
removes what the links of dead processes lead to. Links, because making one is atomic.

    <state dir>/uploads/<host>.<pid>.<start time>/<temporary file's name> -> its path

Nothing here ever fails an upload: without a journal a killed agent's strays stay.
"""

import errno
import logging
import os
import re
import stat
from contextlib import suppress

from agent.errors import AgentError
from agent.files.deletion import delete

log = logging.getLogger("agent.files")

PREFIX = ".tbx-"
# Patterns are compiled when first used, not when the agent starts.
_TEMPORARY = re.escape(PREFIX) + r"[0-9a-f]{16}"
_OWNER = r"(?P<host>.*)\.(?P<pid>\d{1,9})\.(?P<start>\d{1,20})"


def temporary_name() -> str:
    """Return a new name for a temporary file."""
    return PREFIX + os.urandom(8).hex()


class Journal:
    """The temporary files of this process, and the strays of others.

    Everything here looks at the disk, so it belongs into worker threads.

    Args:
        state_dir: The agent's state directory.
    """

    def __init__(self, state_dir: str) -> None:
        self._uploads = os.path.join(state_dir, "uploads")
        self._host = re.sub(r"[^\w-]", "_", os.uname().nodename)
        self._own = ""

    def note(self, name: str, path: str) -> None:
        """Remember the temporary file `name`, which is about to be made at `path`."""
        with suppress(OSError):
            own = self._own or self._make_own()
            try:
                os.symlink(path, os.path.join(own, name))
            except FileNotFoundError:
                # Somebody cleared the state directory under us; the next one is noted.
                self._own = ""

    def _make_own(self) -> str:
        """Make this process's directory; return its path, or raise."""
        os.makedirs(self._uploads, mode=0o700, exist_ok=True)
        found = os.lstat(self._uploads)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "somebody else's journal", self._uploads)
        pid = os.getpid()
        own = os.path.join(self._uploads, f"{self._host}.{pid}.{start_time(pid)}")
        os.makedirs(own, mode=0o700, exist_ok=True)
        self._own = own
        return own

    def forget(self, name: str) -> None:
        """Forget a temporary file that is gone."""
        if self._own:
            with suppress(OSError):
                os.unlink(os.path.join(self._own, name))

    def close(self) -> None:
        """Remove this process's directory, unless something is still noted there."""
        with suppress(OSError):
            if self._own:
                os.rmdir(self._own)

    def sweep(self) -> None:
        """Remove the temporary files of processes that died on this host."""
        with suppress(OSError):
            for owner in os.listdir(self._uploads):
                if self._is_dead(owner):
                    self._sweep_owner(os.path.join(self._uploads, owner))

    def _is_dead(self, owner: str) -> bool:
        match = re.fullmatch(_OWNER, owner, re.ASCII)
        if match is None or match["host"] != self._host:
            return False
        return start_time(int(match["pid"])) != int(match["start"])

    def _sweep_owner(self, directory: str) -> None:
        for name in os.listdir(directory):
            link = os.path.join(directory, name)
            with suppress(OSError):
                path = os.readlink(link)
                # Whatever stands in the journal, only files of ours are removed.
                if re.fullmatch(_TEMPORARY, name) and os.path.basename(path) == name:
                    self._remove(path)
            with suppress(OSError):
                os.unlink(link)
        with suppress(OSError):
            os.rmdir(directory)

    def _remove(self, path: str) -> None:
        with suppress(FileNotFoundError, AgentError):
            # A move to another file system may have left a tree.
            delete(path, recursive=True)
            log.warning("removed what an upload or a move that was killed had left")


def start_time(pid: int) -> int:
    """Return when a process started, in the kernel's ticks; 0 when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in parentheses, may hold anything, parentheses too.
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0
