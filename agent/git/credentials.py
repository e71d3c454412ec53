"""User names and passwords for remotes: held in memory, shown to one host only.

Git asks for them through a helper of ours (`programs/ask.py`), which asks here over an
abstract socket. The answer goes only to a process in the session of the very git that was
given a grant, which no other program can join, and only for a host of that grant, over
https, or over http to this machine. So nothing secret is in an argument, an environment,
a file or an address, and a redirect, or an address rewritten by configuration, gets
nothing.

What `/git/credentials` is given stays in the keeper's memory for its lifetime.
"""

import asyncio
import contextlib
import ipaddress
import os
import re
import secrets
import shlex
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import msgspec

from agent.errors import InvalidRequestError
from agent.git.guards import Setting
from agent.keeper.client import Keeper

QUESTION_MAX_BYTES = 65536
QUESTION_LIMIT_S = 10.0
STORED = "git-credential:"
"""Begins the names under which the keeper holds what `/git/credentials` was given."""
PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "programs", "ask.py")
HOST = re.compile(r"[A-Za-z0-9.-]+(?::\d{1,5})?|\[[0-9A-Fa-f:.]+\](?::\d{1,5})?")
PEER = struct.Struct("3i")
"""Process, user and group of the other end (man 7 unix, SO_PEERCRED)."""


@dataclass(frozen=True)
class Site:
    """A scheme and a host, with its port where the address says one."""

    protocol: str
    host: str

    @classmethod
    def of(cls, url: str) -> "Site | None":
        """Return the site of an address, or None when it takes no credentials."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"}:
            return None
        return cls(parts.scheme, parts.netloc.rpartition("@")[2].lower())

    @property
    def is_safe(self) -> bool:
        """Whether what is sent there can be read by nobody on the way."""
        return self.protocol == "https" or _is_loopback(self.host)


@dataclass(frozen=True)
class Credentials:
    """A user name and a password."""

    username: str
    password: str

    def __repr__(self) -> str:
        """Tell nothing, wherever this may be printed."""
        return "Credentials(***)"


@dataclass(frozen=True)
class Grant:
    """Credentials, and the sites that they are for."""

    credentials: Credentials
    sites: frozenset[Site]

    def answer(self, asked: Site) -> bytes:
        """Return what git reads as an answer; nothing to a stranger."""
        if asked not in self.sites or not asked.is_safe:
            return b""
        found = self.credentials
        return f"username={found.username}\npassword={found.password}\n".encode()


class Stored(msgspec.Struct):
    """What the keeper holds of one site."""

    username: str
    password: str
    expires: float


class CredentialDesk:
    """Answers the helpers of the gits that have a grant."""

    def __init__(self) -> None:
        self._name = f"toolbox-git-{secrets.token_hex(16)}"
        self._grants: dict[int, Grant] = {}
        self._server: asyncio.Server | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Listen; does nothing the second time."""
        async with self._opening:
            if self._server is None:
                # Abstract: no file that somebody could find, and gone with this process.
                self._server = await asyncio.start_unix_server(
                    self._serve, path="\0" + self._name
                )

    async def aclose(self) -> None:
        """Answer nobody any more."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def helper(self) -> str:
        """Return the value of `credential.helper` that asks here."""
        words = [sys.executable, "-I", "-S", PROGRAM, self._name]
        return "!" + shlex.join(words)

    def grant(self, session: int, grant: Grant) -> None:
        """Let what runs in a session ask for these credentials."""
        self._grants[session] = grant

    def revoke(self, session: int) -> None:
        """Let nobody in a session ask any more."""
        self._grants.pop(session, None)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            async with asyncio.timeout(QUESTION_LIMIT_S):
                question = await reader.read(QUESTION_MAX_BYTES)
                session = session_of_peer(writer.get_extra_info("socket"))
                grant = self._grants.get(session)
                if grant is not None:
                    writer.write(grant.answer(asked_site(question)))
                await writer.drain()
        except (TimeoutError, ConnectionError):
            # The helper was ended with its git.
            return
        finally:
            writer.close()


def session_of_peer(line: socket.socket) -> int:
    """Return the session of the process at the other end; 0 when it is not ours."""
    pid, user, _ = PEER.unpack(
        line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size)
    )
    if user != os.geteuid():
        return 0
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(pid)
    return 0


def asked_site(question: bytes) -> Site:
    """Return the site that git asks about (man 1 git-credential, "INPUT/OUTPUT FORMAT")."""
    pairs = dict(
        line.partition("=")[::2]
        for line in question.decode("utf-8", "replace").splitlines()
    )
    return Site(pairs.get("protocol", ""), pairs.get("host", "").lower())


class CredentialStore:
    """What `/git/credentials` was given, in the keeper's memory.

    Args:
        keeper: Holds it, so that it outlasts the api.
        lifetime_s: For how long.
        now: The clock; seconds since 1970.
    """

    def __init__(
        self, keeper: Keeper, lifetime_s: float, now: Callable[[], float] = time.time
    ) -> None:
        self._keeper = keeper
        self._lifetime_s = lifetime_s
        self._now = now

    async def put(self, site: Site, credentials: Credentials) -> None:
        """Keep credentials for a site, in place of those before.

        Raises:
            TooLargeError: There is no room for them.
        """
        stored = Stored(
            credentials.username,
            credentials.password,
            self._now() + self._lifetime_s,
        )
        await self._keeper.kv_set(_name(site), msgspec.json.encode(stored))

    async def get(self, site: Site) -> Credentials | None:
        """Return the credentials for a site, unless their time is over."""
        text = await self._keeper.kv_get(_name(site))
        if text is None:
            return None
        stored = msgspec.json.decode(text, type=Stored)
        if stored.expires <= self._now():
            await self._keeper.kv_delete(_name(site))
            return None
        return Credentials(stored.username, stored.password)


def settings_of(helpers: Iterable[Setting]) -> list[Setting]:
    """Return what makes git ask these helpers, and no other that any file names."""
    # An empty value forgets all helpers before it, those of single addresses too.
    return [("credential.helper", ""), *helpers]


def check_site(protocol: str, host: str) -> Site:
    """Return the site of a protocol and a host.

    Raises:
        InvalidRequestError: They are none that take credentials.
    """
    if protocol not in {"http", "https"}:
        raise InvalidRequestError(f"credentials are for http and https: '{protocol}'")
    if not HOST.fullmatch(host):
        raise InvalidRequestError(f"invalid host: '{host}'")
    return Site(protocol, host.lower())


def check_credentials(username: str, password: str) -> Credentials:
    """Return credentials that git's line-wise protocol can carry.

    Raises:
        InvalidRequestError: They hold a line end or a NUL character.
    """
    if re.search(r"[\r\n\0]", username + password):
        raise InvalidRequestError("credentials contain a line end or a NUL character")
    return Credentials(username, password)


def split_user_info(url: str) -> tuple[str, Credentials | None]:
    """Return an address without its password, and the credentials that it held.

    The user name stays, as git keeps it; scp-like addresses are left alone.
    """
    parts = urlsplit(url)
    user_info, at, host = parts.netloc.rpartition("@")
    username, colon, password = user_info.partition(":")
    if not at or not colon or "://" not in url:
        return url, None
    bare = urlunsplit(parts._replace(netloc=f"{username}@{host}" if username else host))
    return bare, Credentials(unquote(username), unquote(password))


def forms_of(credentials: Credentials) -> list[str]:
    """Return everything by which credentials could be recognised, the worst first."""
    found = [credentials.password, credentials.username]
    return [each for each in found if each]


def _name(site: Site) -> str:
    return f"{STORED}{site.protocol}:{quote(site.host)}"


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    name = name.strip("[]")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return False
