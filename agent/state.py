"""The state directory, and the secrets that come by file or are made there.

Standard library only: the keeper and the command line use it.
"""

import os
import secrets
import stat

from agent.settings import SettingsError

TOKEN_FILE = "token"  # noqa: S105 - the file's name
TOKEN_BYTES = 32
SECRET_MAX_BYTES = 4096


class UnsafeStateError(SettingsError):
    """The state directory is not ours alone, so nothing secret may go there."""


def open_state_dir(path: str) -> None:
    """Make the state directory, or check the one that is there.

    Raises:
        UnsafeStateError: It is a link, no directory, or somebody else's.
        SettingsError: It cannot be made.
    """
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        found = os.lstat(path)
    except FileExistsError as error:
        raise UnsafeStateError(f"state dir is not a directory: {path}") from error
    except OSError as error:
        raise SettingsError(f"state dir: {error.strerror}: {path}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeStateError(f"state dir is not a directory: {path}")
    if found.st_uid != os.geteuid():
        raise UnsafeStateError(f"state dir belongs to another user: {path}")
    if found.st_mode & 0o077:
        raise UnsafeStateError(f"state dir can be used by others (chmod 700): {path}")


def read_secret(source: str | int) -> str:
    """Return the first line of a file, or of an open descriptor, which is then closed.

    Raises:
        SettingsError: It cannot be read, or is empty.
    """
    try:
        with open(source, "rb") as file:
            text = file.read(SECRET_MAX_BYTES)
    except OSError as error:
        raise SettingsError(f"secret: {error.strerror}: {source}") from error
    lines = text.decode("utf-8", "surrogateescape").splitlines()
    if not lines or not lines[0].strip():
        raise SettingsError(f"secret: {source} is empty")
    return lines[0].strip()


def made_key() -> str:
    """Return a new signing key, which nothing keeps."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def made_token(state_dir: str) -> tuple[str, str]:
    """Return the token of this state directory, made on the first call, and its file.

    It outlasts the agent, so that a client's configuration does too.
    """
    path = os.path.join(state_dir, TOKEN_FILE)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return _make_token(path), path
    except OSError as error:
        raise UnsafeStateError(f"token file: {error.strerror}: {path}") from error
    found = os.fstat(descriptor)
    if found.st_uid == os.geteuid() and not found.st_mode & 0o077:
        return read_secret(descriptor), path
    os.close(descriptor)
    raise UnsafeStateError(f"token file can be read by others: {path}")


def _make_token(path: str) -> str:
    token = secrets.token_urlsafe(TOKEN_BYTES)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(path, flags, 0o600), "w", encoding="ascii") as file:
            file.write(token + "\n")
    except OSError as error:
        raise SettingsError(f"token file: {error.strerror}: {path}") from error
    return token
