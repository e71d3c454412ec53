"""Carries out a plan: everything new is on the disk before anything old goes.

Staged: each new file lies complete, with its mode, under a temporary name in the deepest
directory that is there already. A full disk shows here, and nothing has changed. Settled:
deletions, directories, renames, modes. A restore that is killed while settling is ended
by asking for it again: every step that was made is found made.
"""

import os
import stat
from contextlib import suppress

from agent.errors import AgentError
from agent.files.journal import Journal, temporary_name
from agent.git.checkpoints.batch import BatchReader
from agent.git.checkpoints.ground import Ground
from agent.git.checkpoints.manifest import Standing
from agent.git.checkpoints.plan import Plan, Write

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ENTRY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class _Staged:
    """One new entry under its temporary name."""

    def __init__(self, write: Write, directory: bytes) -> None:
        self.write = write
        self.name = temporary_name()
        self.path = (directory + b"/" if directory else b"") + self.name.encode()


class Restoring:
    """One plan on its way: `begin`, `feed` all content, `settle`, at last `discard`.

    Args:
        ground: Where it is carried out.
        plan: The steps.
        journal: Remembers the temporary files.

    Attributes:
        touched: The entries that are as the plan wants them; for taking it back.
    """

    def __init__(self, ground: Ground, plan: Plan, journal: Journal) -> None:
        self._ground = ground
        self._plan = plan
        self._journal = journal
        self._staged: list[_Staged] = []
        self._made: list[tuple[bytes, Standing]] = []
        self._settling = False
        self.touched: set[bytes] = set()
        self._waiting = iter(plan.writes)
        self._fd = -1
        self._link = bytearray()
        self._answer = BatchReader(self._start, self._fill, self._end)

    @property
    def wanted(self) -> bytes:
        """What `git cat-file --batch` is to be asked, line by line."""
        return b"".join(each.blob.encode() + b"\n" for each in self._plan.writes)

    def begin(self) -> None:
        """Make the missing directories, except where a file has to go first.

        Raises:
            OSError: The disk is full, or the system refuses.
        """
        done = {path for path, _ in self._made}
        for path, standing in self._plan.make_directories:
            if path in done or self._ground.obstacle(path) is not None:
                continue
            # For us alone until its files are in it; then it gets the mode it had.
            if self._ground.status(path) is None:
                self._ground.make_directory(path, 0o700)
                self._made.append((path, standing))

    def feed(self, block: bytes) -> None:
        """Take a block of git's answer; nothing that was there changes.

        Raises:
            OSError: The disk is full, or the system refuses.
        """
        self._answer.feed(block)

    def _start(self) -> None:
        write = next(self._waiting)
        staged = _Staged(write, self._ground.nearest(write.path))
        full = os.fsdecode(self._ground.full(staged.path))
        self._journal.note(staged.name, full)
        self._staged.append(staged)
        if not write.is_link:
            with self._ground.told(write.path):
                self._fd = os.open(staged.name, _NEW, 0o600, dir_fd=self._place(staged))

    def _fill(self, piece: memoryview) -> None:
        if self._fd < 0:
            self._link += piece
            return
        with self._ground.told(self._staged[-1].write.path):
            while piece:
                piece = piece[os.write(self._fd, piece) :]

    def _end(self) -> None:
        staged = self._staged[-1]
        with self._ground.told(staged.write.path):
            if self._fd < 0:
                parent, name = self._place(staged), staged.name.encode()
                os.symlink(bytes(self._link), name, dir_fd=parent)
                _give(name, parent, staged.write.standing)
                self._link.clear()
                return
            fd, self._fd = self._fd, -1
            try:
                _stand(fd, staged.write.standing)
            finally:
                # Network file systems tell here that the content did not arrive.
                os.close(fd)

    def _place(self, staged: _Staged) -> int:
        return self._ground.directory(staged.path.rpartition(b"/")[0])

    def settle(self) -> None:
        """Make the disk what the plan says.

        Raises:
            OSError: The system refuses; some steps may have been made.
        """
        if next(self._waiting, None) is not None or not self._answer.idle:
            raise AgentError("the store does not have all of the checkpoint")
        ground, plan = self._ground, self._plan
        self._settling = True
        for path in plan.deletes:
            ground.remove(path)
            self.touched.add(path)
        for path in plan.remove_directories:
            ground.remove_directory(path)
            self.touched.add(path)
        self.begin()
        self.touched |= {path for path, _ in self._made}
        for staged in self._staged:
            self._rename(staged)
            self.touched.add(staged.write.path)
        for path, standing in (*plan.modes, *reversed(self._made)):
            self._adjust(path, standing)
            self.touched.add(path)

    def _rename(self, staged: _Staged) -> None:
        ground, path = self._ground, staged.write.path
        directory, _, name = path.rpartition(b"/")
        with ground.told(path):
            source = os.dup(self._place(staged))
            try:
                target = ground.directory(directory)
                os.rename(
                    staged.name.encode(), name, src_dir_fd=source, dst_dir_fd=target
                )
            finally:
                os.close(source)
        self._journal.forget(staged.name)
        staged.name = ""

    def _adjust(self, path: bytes, standing: Standing) -> None:
        """Give an entry its mode and owner; what is gone by now is left alone."""
        parent, _, name = path.rpartition(b"/")
        gone = suppress(FileNotFoundError, NotADirectoryError)
        with gone, self._ground.told(path):
            _give(name, self._ground.directory(parent), standing)

    def discard(self) -> None:
        """Remove what was staged and not put in place."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        for staged in self._staged:
            if staged.name:
                with suppress(OSError):
                    self._ground.remove(staged.path)
                self._journal.forget(staged.name)
        self._staged.clear()
        if not self._settling:
            for path, _ in reversed(self._made):
                self._ground.remove_directory(path)


def _give(name: bytes, parent: int, standing: Standing) -> None:
    """Set owner and mode of an entry itself; of a link, only the owner."""
    fd = os.open(name, _ENTRY, dir_fd=parent)
    try:
        found = os.fstat(fd)
        if (found.st_uid, found.st_gid) != (standing.uid, standing.gid):
            # Only root may give away; for others it stays ours.
            with suppress(PermissionError):
                owner = (standing.uid, standing.gid)
                os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISLNK(found.st_mode):
            # The call that changes a mode takes no descriptor of this kind.
            os.chmod(f"/proc/self/fd/{fd}", standing.mode)
    finally:
        os.close(fd)


def _stand(fd: int, standing: Standing) -> None:
    """Set owner and mode of an open file."""
    found = os.fstat(fd)
    if (found.st_uid, found.st_gid) != (standing.uid, standing.gid):
        with suppress(PermissionError):
            os.fchown(fd, standing.uid, standing.gid)
    # Last, because a change of owner takes bits away.
    os.fchmod(fd, standing.mode)
