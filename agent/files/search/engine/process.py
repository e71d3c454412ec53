"""Runs ripgrep, its output into memory or into a pipe.

Into memory ripgrep waits for nobody, and wakes nobody for every file in which something
is found. Whatever ripgrep hangs in, the wall clock bounds it.

Ripgrep reads binary files to their end, where the contract only wants their beginning.
That is of no account but for huge ones, sparse ones above all: when ripgrep is seen to
read one of these, somebody else has to search.
"""

import fcntl
import os
import resource
import select
from _collections_abc import Iterator
from itertools import count

from agent.files.search.engine.answer import InvalidError
from agent.files.search.engine.bounds import BLOCK_BYTES, COLLECTED_MAX_BYTES
from agent.files.search.engine.matching import is_binary

Words = list[str | bytes]

LOOK_MS = 10
"""Between looks at what has come into memory."""
LOOKS = 100
"""After so many, ripgrep is looked at: where it is."""
HUGE_BYTES = 256 * 1024 * 1024
"""Of a binary file that nobody waits for."""
_SIGKILL, _SIGPIPE = 9, 13
"""Plain numbers: `signal` would be 5 ms of imports."""
_EXIT_ERROR = 2
"""Something could not be read, or the expression is none; the second comes with words."""
_WORDS_MAX_BYTES = 4096


class UnusableError(Exception):
    """Ripgrep cannot be run, or has not come to its end."""


class TooMuchError(Exception):
    """Ripgrep has found more than may be collected."""


class _Run:
    """One process of ripgrep; to be used with `with`, which ends it."""

    def __init__(self, words: Words, output: int) -> None:
        self._pid = 0
        self._words = os.memfd_create("words", os.MFD_CLOEXEC)
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, self._words, 2),
        ]
        try:
            self._pid = os.posix_spawn(
                words[0], words, {}, file_actions=actions, setsigdef=[_SIGPIPE]
            )
        except OSError as error:
            os.close(self._words)
            raise UnusableError(str(error)) from error

    def _end(self) -> None:
        os.close(self._words)
        if self._pid:
            os.kill(self._pid, _SIGKILL)
            os.waitpid(self._pid, 0)

    def finish(self) -> None:
        """Wait for the process, and see how it ended.

        Raises:
            InvalidError: The expression is none.
            UnusableError: It did not come to its end.
        """
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        code = os.waitstatus_to_exitcode(status)
        words = os.pread(self._words, _WORDS_MAX_BYTES, 0).decode(errors="replace")
        if code == _EXIT_ERROR and "regex" in words:
            raise InvalidError(words.strip())
        if code not in {0, 1, _EXIT_ERROR} or words:
            raise UnusableError(words or f"exit code {code}")


def _open_files(pid: int) -> list[str]:
    try:
        with os.scandir(f"/proc/{pid}/fd") as scan:
            return [entry.path for entry in scan]
    except OSError:
        return []


def _is_huge(path: str) -> bool:
    """Tell whether an open file is both huge and binary."""
    try:
        size = os.stat(path).st_size
    except OSError:
        return False
    return size > HUGE_BYTES and is_binary(os.fsencode(path))


class Piped(_Run):
    """A process whose output is read while it comes."""

    def __init__(self, words: Words) -> None:
        self._output, output = os.pipe2(os.O_CLOEXEC)
        try:  # noqa: SIM105 - `contextlib` takes its time to import
            fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, BLOCK_BYTES)
        except OSError:
            pass
        try:
            super().__init__(words, output)
        except BaseException:
            os.close(self._output)
            raise
        finally:
            os.close(output)

    def __enter__(self) -> "Piped":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._output)
        self._end()

    def read(self) -> bytes:
        """Return the next piece of output; nothing at its end."""
        return os.read(self._output, BLOCK_BYTES)


class Stored(_Run):
    """A process whose output waits in memory, as much as may be collected."""

    def __init__(self, words: Words) -> None:
        self._output = os.memfd_create("output", os.MFD_CLOEXEC)
        # The child's bound; this process writes no files, and has its own back at once.
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        self._bound = (
            COLLECTED_MAX_BYTES if hard < 0 else min(COLLECTED_MAX_BYTES, hard)
        )
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._bound, hard))
        try:
            super().__init__(words, self._output)
        except BaseException:
            os.close(self._output)
            raise
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        self._ended = os.pidfd_open(self._pid)

    def __enter__(self) -> "Stored":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._output)
        os.close(self._ended)
        self._end()

    def pieces(self) -> Iterator[bytes]:
        """Yield what comes, whole lines each time, until the process has ended.

        Raises:
            TooMuchError: Not all of it was kept.
            UnusableError: Ripgrep is reading a huge binary file.
        """
        ended = select.poll()
        ended.register(self._ended, select.POLLIN)
        at = 0
        has_ended = False
        for look in count(1):
            if has_ended:
                return
            has_ended = bool(ended.poll(LOOK_MS))
            if look % LOOKS == 0 and any(map(_is_huge, _open_files(self._pid))):
                raise UnusableError("a huge binary file")
            size = os.fstat(self._output).st_size
            if size >= self._bound:
                raise TooMuchError
            text = os.pread(self._output, size - at, at)
            whole = text.rfind(b"\n") + 1
            at += whole
            if whole:
                yield text[:whole]
