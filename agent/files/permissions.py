"""Sets mode, owner and group of an entry (contract 10 §10)."""

import os
import re

from agent.errors import InvalidRequestError

LAST_ID = 2**32 - 2
"""The number after it means "unchanged" to the system."""


def set_permissions(
    path: str, mode: int | None, owner: str | None, group: str | None
) -> None:
    """Set what is not None of the entry that `path` leads to, links followed.

    Everything is looked up before anything is set. The owner comes first, because
    changing it takes the set-user and set-group bits away; so they are only kept by
    saying the mode too.

    Raises:
        InvalidRequestError: There is no such user or group.
        OSError: It is missing, or the system refuses.
    """
    user = -1 if owner is None else user_id(owner)
    group_number = -1 if group is None else group_id(group)
    os.stat(path)
    if user >= 0 or group_number >= 0:
        os.chown(path, user, group_number)
    if mode is not None:
        os.chmod(path, mode)


def user_id(text: str) -> int:
    """Return the number of a user, given by name or number."""
    import pwd  # noqa: PLC0415 - few callers ever need it

    try:
        return pwd.getpwnam(text).pw_uid
    except (KeyError, ValueError):
        return _number(text, "user")


def group_id(text: str) -> int:
    """Return the number of a group, given by name or number."""
    import grp  # noqa: PLC0415 - few callers ever need it

    try:
        return grp.getgrnam(text).gr_gid
    except (KeyError, ValueError):
        return _number(text, "group")


def _number(text: str, kind: str) -> int:
    # Names may consist of digits, so this comes second, as in chown(1).
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > LAST_ID:
        raise InvalidRequestError(f"{kind} not found: {text}")
    return int(text)
