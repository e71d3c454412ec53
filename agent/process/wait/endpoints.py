"""Conditions on what listens: a port, an HTTP status.

Nobody tells of a new listener, so it is tried, with pauses that grow from 10 to 250 ms,
for as long as somebody waits. A GET of one's own instead of a client library: of the
answer only the status counts, and nothing is ever followed.
"""

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from agent.errors import InvalidRequestError
from agent.process.wait.models import (
    HttpCondition,
    HttpFacts,
    PortCondition,
    PortFacts,
)

T = TypeVar("T")

FIRST_PAUSE_S = 0.01
LAST_PAUSE_S = 0.25

CONNECT_LIMIT_S = 5.0
"""On loopback; longer only when the listener's backlog is full."""

ANSWER_LIMIT_S = 60.0
"""For the first byte: a development server may compile before it answers."""

LINE_MAX_BYTES = 8192
URL_MAX_CHARACTERS = 8192

LOOPBACK = ("127.0.0.1", "::1")
"""Development servers often listen on one of them only."""


class Target(NamedTuple):
    """What a GET is sent to."""

    hosts: tuple[str, ...]
    port: int
    request: bytes


def hosts_of(host: str | None) -> tuple[str, ...]:
    """Return the addresses that a host stands for.

    Raises:
        InvalidRequestError: It is not on loopback.
    """
    if host is None or host.lower() == "localhost":
        return LOOPBACK
    try:
        if ipaddress.ip_address(host).is_loopback:
            return (host,)
    except ValueError:
        # Names are not looked up: they may lead anywhere, and elsewhere the next time.
        pass
    raise InvalidRequestError(f"host {host[:100]!r} is not a loopback address")


def target_of(url: str) -> Target:
    """Return where a URL leads.

    Raises:
        InvalidRequestError: It is none that is waited for.
    """
    # Looked at before it is split, which quietly drops tabs and line ends.
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise InvalidRequestError("url: it has characters that no URL has")
    if len(url) > URL_MAX_CHARACTERS:
        raise InvalidRequestError(
            f"url: it has more than {URL_MAX_CHARACTERS} characters"
        )
    try:
        parts = urlsplit(url)
        port = 80 if parts.port is None else parts.port
    except ValueError as error:
        raise InvalidRequestError(f"url: {error}") from error
    if parts.scheme != "http" or not parts.hostname or "@" in parts.netloc or not port:
        raise InvalidRequestError(
            "url: it has to be http://, with a host and no user name"
        )
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: */*\r\n"
        "User-Agent: toolbox-agent\r\nConnection: close\r\n\r\n"
    )
    return Target(hosts_of(parts.hostname), port, request.encode())


async def until_open(condition: PortCondition, hosts: tuple[str, ...]) -> PortFacts:
    """Wait until something accepts connections on a port."""

    async def attempt() -> PortFacts | None:
        for host in hosts:
            async with _connected(host, condition.port) as line:
                if line is not None:
                    return PortFacts(host=host)
        return None

    return await _until(attempt)


async def until_answered(condition: HttpCondition, target: Target) -> HttpFacts:
    """Wait until a GET has the status that is wanted."""

    async def attempt() -> HttpFacts | None:
        for host in target.hosts:
            if await _status(host, target) == condition.status:
                return HttpFacts(status=condition.status)
        return None

    return await _until(attempt)


async def _until(attempt: Callable[[], Awaitable[T | None]]) -> T:
    pause_s = FIRST_PAUSE_S
    while True:
        found = await attempt()
        if found is not None:
            return found
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LAST_PAUSE_S)


Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def _connected(host: str, port: int) -> AsyncIterator[Line | None]:
    """Give a connection, or None when nobody takes it."""
    try:
        async with asyncio.timeout(CONNECT_LIMIT_S):
            line = await asyncio.open_connection(host, port, limit=LINE_MAX_BYTES)
    except OSError:
        yield None
        return
    try:
        yield None if _is_itself(line[1]) else line
    finally:
        # Nothing is said to the end of what was answered.
        line[1].transport.abort()


def _is_itself(writer: asyncio.StreamWriter) -> bool:
    """Tell whether both ends of a connection are the same socket.

    The kernel takes the number of our end from the range in which many listeners have
    theirs; when it happens to be the one that we connect to, we are connected, with
    nobody listening (RFC 9293, simultaneous open).
    """
    ours, theirs = map(writer.get_extra_info, ("sockname", "peername"))
    return bool(ours == theirs)


async def _status(host: str, target: Target) -> int:
    """Return the status that a GET has, or 0 when there is none."""
    async with _connected(host, target.port) as line:
        if line is None:
            return 0
        reader, writer = line
        with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
            async with asyncio.timeout(ANSWER_LIMIT_S):
                writer.write(target.request)
                return await _final_status(reader)
        return 0


async def _final_status(reader: asyncio.StreamReader) -> int:
    """Return the status of an answer; informational ones come before it.

    Raises:
        ValueError: It is no answer.
        OSError: The connection broke.
    """
    while True:
        version, _, rest = (await reader.readline()).partition(b" ")
        if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
            return 0
        status = int(rest[:3])
        if status >= 200:
            return status
        while (await reader.readline()).strip():
            """The rest of an informational answer."""
