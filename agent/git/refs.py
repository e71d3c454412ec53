"""Checks names and addresses from callers before git sees them (man 1 git-check-ref-format)."""

import re

from agent.errors import InvalidRequestError

SCP_LIKE = re.compile(r"(?:[^/@:\s]+@)?[^/@:\s-][^/@:\s]*:(?!//)")
"""`user@host:path`; a colon before the first slash makes an address of it."""
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
SCHEMES = frozenset({"http", "https", "ssh", "git", "file"})
HEX = re.compile(r"[0-9a-fA-F]{4,64}")
_BAD_IN_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def is_ref_name(name: str) -> bool:
    """Tell whether `name` can follow `refs/heads/`."""
    return (
        bool(name)
        and name not in {"@", "HEAD"}
        and not name.startswith(("-", "/"))
        and not name.endswith(("/", "."))
        and not _BAD_IN_REF.search(name)
        and not any(
            part.startswith(".") or part.endswith(".lock") for part in name.split("/")
        )
    )


def check_branch(name: str) -> str:
    """Return a branch's name.

    Raises:
        InvalidRequestError: No branch can be called so.
    """
    if not is_ref_name(name):
        raise InvalidRequestError(f"invalid branch name: '{name}'")
    return name


def check_remote(name: str) -> str:
    """Return a remote's name.

    Raises:
        InvalidRequestError: No remote can be called so.
    """
    if not is_ref_name(name):
        raise InvalidRequestError(f"invalid remote name: '{name}'")
    return name


def check_revision(name: str, what: str = "revision") -> str:
    """Return what may name a revision: anything but an option.

    Raises:
        InvalidRequestError: It could be taken for an option, or holds a control character.
    """
    if not name or name.startswith("-") or _CONTROL.search(name):
        raise InvalidRequestError(f"invalid {what}: '{name}'")
    return name


def check_commit_id(name: str) -> str:
    """Return the hash of a commit, whole or its beginning.

    Raises:
        InvalidRequestError: It is none.
    """
    if not HEX.fullmatch(name):
        raise InvalidRequestError(f"invalid commit id: '{name}'")
    return name


def check_files(names: list[str]) -> list[str]:
    """Return names of files in a repository.

    Raises:
        InvalidRequestError: One is empty or holds a NUL character.
    """
    for name in names:
        if not name or "\0" in name:
            raise InvalidRequestError(f"invalid file name: '{name}'")
    return names


def check_url(url: str) -> str:
    """Return an address that git may be given.

    Raises:
        InvalidRequestError: It could be taken for an option, or its transport runs
            programs or is unknown.
    """
    if not url or url.startswith("-") or _CONTROL.search(url):
        raise InvalidRequestError("invalid repository url")
    scheme = SCHEME.match(url)
    if scheme is not None:
        rest = url[scheme.end() :]
        if scheme[1].lower() not in SCHEMES:
            raise InvalidRequestError(f"transport '{scheme[1]}' is not allowed")
        # A host that begins so would be an option of ssh.
        if rest.rpartition("@")[2].startswith("-") or rest.startswith("-"):
            raise InvalidRequestError("invalid repository url")
    elif re.match(r"[A-Za-z0-9]+::", url):
        raise InvalidRequestError(
            f"transport '{url.partition('::')[0]}' is not allowed"
        )
    return url
