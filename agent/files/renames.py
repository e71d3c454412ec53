"""Renames an entry without ever replacing another (man 2 renameat2).

Where the kernel or the file system does not know RENAME_NOREPLACE, the new name is taken
first by something of ours (a hard link, or an empty placeholder), which fails when
anything stands there; so even then nobody's file is lost to a race.
"""

import errno
import os
import stat
from collections.abc import Callable
from functools import lru_cache

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1

_UNKNOWN = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def rename_new(source: str, destination: str) -> None:
    """Give the entry `source`, a link itself included, a name that is free.

    Raises:
        FileExistsError: Something stands at `destination`.
        OSError: The system refuses; EXDEV: it is another file system.
    """
    failed = _noreplace()(source, destination)
    if failed in _UNKNOWN:
        rename_by_steps(source, destination)
    elif failed:
        raise OSError(failed, os.strerror(failed), source, None, destination)


def rename_by_steps(source: str, destination: str) -> None:
    """Do what `rename_new` does where the system cannot do it in one step."""
    if stat.S_ISDIR(os.lstat(source).st_mode):
        os.mkdir(destination, 0o700)
        _over_placeholder(source, destination, os.rmdir)
        return
    try:
        os.link(source, destination, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        os.unlink(source)
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(destination, flags, 0o600))
    _over_placeholder(source, destination, os.unlink)


def _over_placeholder(
    source: str, destination: str, remove: Callable[[str], None]
) -> None:
    try:
        os.rename(source, destination)
    except OSError:
        remove(destination)
        raise


@lru_cache(maxsize=1)
def _noreplace() -> Callable[[str, str], int]:
    """Return the system's call; it returns the number of the error, or 0."""
    # By the first move: loading it takes longer than any other part of one.
    import ctypes  # noqa: PLC0415

    library = ctypes.CDLL(None, use_errno=True)
    function = getattr(library, "renameat2", None)
    if function is None:
        # A C library older than the call.
        return lambda _source, _destination: errno.ENOSYS
    path, number = ctypes.c_char_p, ctypes.c_int
    function.argtypes = (number, path, number, path, ctypes.c_uint)

    def call(source: str, destination: str) -> int:
        old, new = os.fsencode(source), os.fsencode(destination)
        if function(_AT_FDCWD, old, _AT_FDCWD, new, _RENAME_NOREPLACE) == 0:
            return 0
        return ctypes.get_errno()

    return call
