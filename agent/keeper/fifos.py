"""Named pipes between a session's shell and the keeper.

A shell that is already running can be handed no descriptor, so it opens a pipe by name.
The keeper's end is open before the shell hears of it. A pair for the outputs is used again
once nobody has it open any more; one for input never is, because a process that left
its outputs may still read it.
"""

import os
import stat

from agent.keeper.state import State

SPARE_MAX = 2
"""Pairs kept for the next command."""


class Fifos:
    """The named pipes of one session.

    Args:
        state: Who makes their directory.
        directory: Where they are; made again when user code has removed it.
    """

    def __init__(self, state: State, directory: str) -> None:
        self._state = state
        self._directory = directory
        self._spare: list[str] = []
        self._count = 0

    def outputs(self) -> tuple[str, tuple[int, int]]:
        """Return the name of a pair, and the reading ends of `name.out`, `name.err`.

        Raises:
            OSError: They cannot be made.
        """
        while self._spare:
            name = self._spare.pop()
            try:
                return name, self._open_pair(name)
            except OSError:
                self._drop(name)
        self._count += 1
        name = os.path.join(self._directory, str(self._count))
        try:
            self._make(f"{name}.out")
            self._make(f"{name}.err")
            return name, self._open_pair(name)
        except OSError:
            self._drop(name)
            raise

    def input(self, name: str) -> int:
        """Make `name.in` and return a descriptor to write to it, non-blocking.

        Raises:
            OSError: It cannot be made.
        """
        path = f"{name}.in"
        self._make(path)
        # For reading too, so that it is open before the shell opens its end, and so
        # that a reader which comes and goes is no broken pipe.
        return _open(path, os.O_RDWR)

    def drop_input(self, name: str) -> None:
        """Remove the name of an input; who has it open keeps it."""
        self._state.drop(f"{name}.in")

    def give_back(self, name: str) -> None:
        """Say that nobody has a pair open any more."""
        if len(self._spare) < SPARE_MAX:
            self._spare.append(name)
        else:
            self._drop(name)

    def _open_pair(self, name: str) -> tuple[int, int]:
        out = _open(f"{name}.out", os.O_RDONLY)
        try:
            return out, _open(f"{name}.err", os.O_RDONLY)
        except OSError:
            os.close(out)
            raise

    def _make(self, path: str) -> None:
        try:
            os.mkfifo(path, 0o600)
        except FileNotFoundError:
            self._state.make_directory(self._directory)
            os.mkfifo(path, 0o600)

    def _drop(self, name: str) -> None:
        self._state.drop(f"{name}.out")
        self._state.drop(f"{name}.err")


def _open(path: str, mode: int) -> int:
    """Open a named pipe.

    Raises:
        OSError: It is not there, or something else is.
    """
    fd = os.open(path, mode | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(path)
    return fd
