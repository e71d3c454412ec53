"""Reads what a client asks for when it opens a terminal, and what it can understand."""

import base64
import binascii
from collections.abc import Iterable

import msgspec

from agent.errors import InvalidRequestError
from agent.wire import printable

COLUMNS = 80
ROWS = 24
SIZE_MAX = 1000
"""Columns or rows."""

RESERVED = "create-connect"
"""No id: it is a word of the path."""

ENVIRONMENT_TOKEN = "X-Daytona-Pty-Envs~"  # noqa: S105 - a subprotocol's name
TERM = "xterm-256color"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A terminal to be opened, checked.

    Attributes:
        cwd: The shell's directory; relative ones resolve against the work dir.
        lazy: Its shell waits for the first client.
    """

    id: str
    cwd: str
    environment: dict[str, str]
    rows: int
    columns: int
    lazy: bool


def wanted(
    session_id: str,
    cwd: str,
    environment: dict[str, str],
    size: tuple[int, int],
    *,
    lazy: bool,
) -> Wanted:
    """Return what is to be opened; `size` is columns and rows, 0 for the usual ones.

    Raises:
        InvalidRequestError: No id, or one that cannot be used; or no such size.
    """
    if not session_id:
        raise InvalidRequestError("session ID is required")
    if session_id == RESERVED or printable(session_id) != session_id:
        raise InvalidRequestError("session ID cannot be used")
    if printable(cwd) != cwd:
        raise InvalidRequestError("cwd must be UTF-8")
    columns, rows = size
    for name, value in (("cols", columns), ("rows", rows)):
        if not 0 <= value <= SIZE_MAX:
            raise InvalidRequestError(f"{name} must be at most {SIZE_MAX}")
    return Wanted(
        id=session_id,
        cwd=cwd,
        environment={**environment, "TERM": environment.get("TERM") or TERM},
        rows=rows or ROWS,
        columns=columns or COLUMNS,
        lazy=lazy,
    )


def check_size(columns: int, rows: int) -> None:
    """Refuse a size that no terminal is given.

    Raises:
        InvalidRequestError: It is none.
    """
    if not (1 <= columns <= SIZE_MAX and 1 <= rows <= SIZE_MAX):
        raise InvalidRequestError(f"cols and rows must be between 1 and {SIZE_MAX}")


def size_of(text: str) -> int:
    """Return a size from a query; what is no number is the usual size."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def offered_environment(subprotocols: Iterable[str]) -> dict[str, str]:
    """Return the variables that travel in a subprotocol token.

    Raises:
        InvalidRequestError: The token is malformed; its content is never quoted.
    """
    for token in subprotocols:
        if token.startswith(ENVIRONMENT_TOKEN):
            encoded = token.removeprefix(ENVIRONMENT_TOKEN).rstrip("=")
            try:
                text = base64.b64decode(
                    encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True
                )
                return msgspec.json.decode(text, type=dict[str, str])
            except (binascii.Error, ValueError, msgspec.DecodeError) as error:
                raise InvalidRequestError("environment token is malformed") from error
    return {}
