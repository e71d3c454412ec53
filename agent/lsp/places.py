"""Which file and which project a caller means (contract 40 §7).

Clients put `file://` before whatever path they were given, relative ones too, and encode
nothing. So what follows is first taken literally, and decoded only when that names
nothing. Everything here may look at the disk, so it runs in a thread.
"""

import os
import re
from dataclasses import dataclass
from urllib.parse import quote_from_bytes, unquote_to_bytes

from agent.errors import InvalidRequestError
from agent.files.paths import Paths

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://|(untitled|git|inmemory):")
_SAFE = "/~!$&'()*,;=@"
"""Bytes that stay as they are in a path of a URI (RFC 3986 §3.3), without `:` and `+`,
which some servers encode and some read as spaces."""


@dataclass(frozen=True)
class Project:
    """A project's directory.

    Attributes:
        path: Absolute, as the caller wrote it, cleaned.
        key: The same with every link resolved: what makes two callers mean one project.
    """

    path: str
    key: str


class Places:
    """Finds what callers name.

    Args:
        paths: How paths resolve.
    """

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def project(self, given: str) -> Project:
        """Return the project at a path, which need not exist.

        Raises:
            InvalidPathError: It cannot be a path.
        """
        path = os.path.normpath(self._paths.resolve(given))
        # POSIX lets two leading slashes mean something of their own; here they do not.
        path = "/" + path.lstrip("/")
        return Project(path, os.path.realpath(path))

    def document(self, uri: str, project: Project) -> str:
        """Return the absolute path that a document's URI means.

        Raises:
            InvalidRequestError: It is no URI of a file.
        """
        rest = _without_scheme(uri)
        if "\0" in rest or not rest:
            raise InvalidRequestError(f"uri does not name a file: {uri!r}")
        decoded = os.fsdecode(unquote_to_bytes(rest))
        tried = list(self._readings(rest, project))
        if decoded != rest and "\0" not in decoded:
            tried += self._readings(decoded, project)
        found = next((each for each in tried if os.path.lexists(each)), tried[0])
        return "/" + os.path.normpath(found).lstrip("/")

    def _readings(self, rest: str, project: Project) -> list[str]:
        if rest.startswith("/"):
            return [rest]
        found = [f"{self._paths.work_dir}/{rest}", f"{project.path}/{rest}"]
        if rest.startswith("localhost/"):
            found.append(rest.removeprefix("localhost"))
        return found


def _without_scheme(uri: str) -> str:
    if uri[:7].lower() == "file://":
        return uri[7:]
    if uri[:6].lower() == "file:/":
        return uri[5:]
    if scheme := _SCHEME.match(uri):
        name = scheme[1] or scheme[2]
        raise InvalidRequestError(f"only file URIs are served, not {name}: {uri!r}")
    return uri


def uri_of(path: str) -> str:
    """Return the canonical URI of an absolute path."""
    return "file://" + quote_from_bytes(os.fsencode(path), safe=_SAFE)


def path_of(uri: str) -> str | None:
    """Return the path of a URI that a server gave, or None when it is no file's."""
    if not uri.startswith("file:///"):
        return None
    return os.fsdecode(unquote_to_bytes(uri.removeprefix("file://")))


def canonical(uri: str) -> str:
    """Return a server's URI as we write it; what is no file's stays."""
    path = path_of(uri)
    return uri if path is None else uri_of(path)
