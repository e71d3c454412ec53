"""Makes directories, with their parents, whoever else makes them at the same time."""

import errno
import os
import re
import stat

from agent.errors import InvalidRequestError

DEFAULT_MODE = 0o755


def parse_mode(text: str) -> int:
    """Return the mode that octal digits say: `755`, `0755`, `1777`.

    Raises:
        InvalidRequestError: Anything else.
    """
    if not re.fullmatch(r"[0-7]{1,5}", text) or int(text, 8) > 0o7777:
        raise InvalidRequestError(f"mode must be octal digits such as 0755: {text}")
    return int(text, 8)


def make_directories(path: str, mode: int = DEFAULT_MODE) -> None:
    """Make the directory `path` and those of its parents that are missing.

    `mode`, less the umask, is that of every directory made; those that exist stay as
    they are. Losing a race against another maker counts as success.

    Raises:
        NotADirectoryError: `path`, or a part of it, is something else.
        OSError: The system refuses.
    """
    missing = [path.rstrip("/") or "/"]
    while missing:
        try:
            _make(missing[-1], mode)
        except FileNotFoundError:
            parent = os.path.dirname(missing[-1]).rstrip("/") or "/"
            if parent in {missing[-1], "/"}:
                raise
            missing.append(parent)
        else:
            missing.pop()


def _make(path: str, mode: int) -> None:
    try:
        os.mkdir(path, mode & 0o1777)
    except FileExistsError as error:
        # True of a link to a directory too, but not of a link that leads nowhere.
        if not os.path.isdir(path):
            raise NotADirectoryError(
                errno.ENOTDIR, os.strerror(errno.ENOTDIR), path
            ) from error
    else:
        if mode & (stat.S_ISUID | stat.S_ISGID):
            # mkdir leaves these two bits out.
            made = stat.S_IMODE(os.lstat(path).st_mode)
            os.chmod(path, made | mode & (stat.S_ISUID | stat.S_ISGID))
