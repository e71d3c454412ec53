"""Where a preview is: one host name a port, so that every previewed app has its own origin.

    http://3000-<sandbox or signed token>.localhost:2282/path
    http://127.0.0.1:2282/preview/3000-<sandbox or signed token>/path

Chromium and Firefox take every name below `localhost` for this machine. Programs ask
the system's resolver, which may not know such names; they are given the second form,
from which a browser that opens it is sent on to the first.
"""

import re
from pathlib import Path
from typing import NamedTuple

from agent.dev.previews.tokens import TOOLBOX_PORT
from agent.errors import InvalidRequestError, MisdirectedError, NotFoundError
from agent.settings import Settings

DOMAIN = ".localhost"
PREFIX = "/preview/"
TOOLBOX_PREFIX = "/toolbox/"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
LABEL = re.compile(r"([0-9]{1,5})-([a-z0-9_-]{1,57})")
NAME_MAX = 57
"""RFC 1035 §2.3.4: a label has 63 characters; a port and its hyphen take six."""
PORT_MAX = 65535

LOCAL_RESOLVERS = {"myhostname", "resolve", "mymachines"}
"""Modules of nsswitch.conf(5) that know the names below `localhost`."""
SYSTEMD_STUB = "127.0.0.53"
"""Where systemd-resolved answers; it knows them too."""


class Place(NamedTuple):
    """What an address names: a port, by the sandbox or by a signed token."""

    port: int
    name: str
    path: str
    """The path that the app is to see, with the query, as it was sent."""
    host: str
    """The Host header, lower case."""
    has_own_host: bool

    @property
    def label(self) -> str:
        """The part of the address that names it."""
        return f"{self.port}-{self.name}"


class Addresses:
    """The addresses of one agent's previews.

    Args:
        settings: The agent's options, with the ports that it really has.
        named: Whether programs here find the names below `localhost`.
    """

    def __init__(self, settings: Settings, *, named: bool) -> None:
        self._port = settings.preview_port
        self._named = named
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self._origin = f"http://{host}:{self._port}"
        self.name = name_of(settings.sandbox_id)
        self._bare = {f"{each}:{self._port}" for each in (*LOOPBACK, host)}

    @property
    def template(self) -> str:
        """The address of any port, as platforms describe it."""
        return self.named_url("{{PORT}}-{{sandboxId}}")

    def url(self, label: str) -> str:
        """Return the address of a preview for programs that run here."""
        return self.named_url(label) if self._named else self.plain_url(label)

    def named_url(self, label: str) -> str:
        """Return the address that is an origin of its own."""
        return f"http://{label}{DOMAIN}:{self._port}"

    def plain_url(self, label: str) -> str:
        """Return the address that needs no name."""
        return f"{self._origin}{PREFIX}{label}"

    def find(self, host: str, target: str) -> Place:
        """Return what a request is for.

        Args:
            host: Its Host header.
            target: Its path and query, as they were sent.

        Raises:
            MisdirectedError: The Host is none of ours: an attacker's name, perhaps,
                that was made to lead here.
            NotFoundError: There is no preview under this address.
            InvalidRequestError: The target is not a path, or the port not a port.
        """
        host = host.lower()
        if not target.startswith("/"):
            raise InvalidRequestError("the request target must be a path")
        if host in self._bare:
            return self._find_plain(host, target)
        label = host.removesuffix(f"{DOMAIN}:{self._port}")
        if label == host or not LABEL.fullmatch(label):
            raise MisdirectedError("host is not served here")
        return _place(label, target, host, has_own_host=True)

    def _find_plain(self, host: str, target: str) -> Place:
        if target.startswith(TOOLBOX_PREFIX):
            # The agent's own router takes the sandbox's id off.
            return Place(TOOLBOX_PORT, self.name, target, host, has_own_host=False)
        label, slash, rest = target.removeprefix(PREFIX).partition("/")
        label, mark, query = label.partition("?")
        if not target.startswith(PREFIX) or not LABEL.fullmatch(label.lower()):
            raise NotFoundError(
                "no preview here; previews are at"
                f" {self.named_url('{port}-' + self.name)}"
            )
        path = slash + rest if slash and not mark else "/" + mark + query + slash + rest
        return _place(label.lower(), path, host, has_own_host=False)


def name_of(sandbox_id: str) -> str:
    """Return the form of a sandbox's id that a host name can hold."""
    name = re.sub(r"[^a-z0-9-]+", "-", sandbox_id.lower())
    return name[:NAME_MAX].strip("-") or "sandbox"


def knows_localhost_names(
    switch: Path = Path("/etc/nsswitch.conf"), resolver: Path = Path("/etc/resolv.conf")
) -> bool:
    """Tell whether this system's resolver is one that knows the names below `localhost`.

    By its configuration, because asking it may take as long as a name server is silent.
    """
    modules = _words_after("hosts:", switch)
    servers = _words_after("nameserver", resolver)
    return bool(LOCAL_RESOLVERS & modules) or SYSTEMD_STUB in servers


def _words_after(keyword: str, file: Path) -> set[str]:
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return set()
    split = [line.partition("#")[0].split() for line in lines]
    return {word for words in split if words[:1] == [keyword] for word in words[1:]}


def _place(label: str, path: str, host: str, *, has_own_host: bool) -> Place:
    number, _, name = label.partition("-")
    port = int(number)
    if not 1 <= port <= PORT_MAX:
        raise InvalidRequestError(f"not a port: {number}")
    path = path if path.startswith("/") else "/" + path
    return Place(port, name, path, host, has_own_host)
