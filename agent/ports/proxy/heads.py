"""The heads of requests and answers on their way through the proxy (contract 50 §3).

What a head says about one connection only is taken off and said anew for the next one
(RFC 9110, 7.6.1); everything else stays as it was, byte for byte. How long a body is, is
always said by us, from what the parser took it for: two readings of one message are what
request smuggling is made of.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from agent.errors import InvalidRequestError, RemoteError
from agent.ports.proxy.credentials import Header, Headers

RawHeaders = Iterable[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
FRAMING = frozenset({b"content-length", b"transfer-encoding"})

HOPS = b"x-toolbox-proxy-hops"
"""How often a request came through the agent's own port already."""
HOPS_MAX = 5

OURS = FRAMING | {b"host", b"x-forwarded-for", HOPS}
"""Said anew to an application."""

MALFORMED = re.compile(
    rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n)|\n[^:\r]*[ \t]"
)
"""Control characters, lone line ends, folded lines and names with blanks: the parser lets
them pass in an answer, and the next reader may take them for something else."""


class Length(NamedTuple):
    """How a message says where its body ends."""

    is_chunked: bool
    exact: bytes | None
    """The Content-Length, when there is one."""


class RequestFacts(NamedTuple):
    """What the head of a request is made of, besides its headers."""

    method: str
    target: str
    """Path and query, raw."""
    port: int
    peer: str
    upgrade: bytes
    """The protocol that it asks for; empty: none."""
    hops: int
    """How often it came through the agent's own port; 0: it is for another."""


def keyed(headers: RawHeaders) -> Headers:
    """Return headers as the functions here take them."""
    return [Header(name.lower(), name, value) for name, value in headers]


def end_to_end(headers: Headers) -> Headers:
    """Return the headers that are not about this connection only."""
    named = {
        option.strip().lower()
        for name, _, value in headers
        if name == b"connection"
        for option in value.split(b",")
    }
    dropped = HOP_BY_HOP | (named - FRAMING)
    return [each for each in headers if each[0] not in dropped]


def length_of(headers: Headers) -> Length:
    """Return how a message's head says where its body ends.

    Raises:
        ValueError: In two ways, or in one that is not understood.
    """
    lengths = [value for name, _, value in headers if name == b"content-length"]
    codings = [
        value.lower() for name, _, value in headers if name == b"transfer-encoding"
    ]
    if len(lengths) + len(codings) > 1:
        raise ValueError("the length of the body is given twice")
    if codings and codings[0] != b"chunked":
        raise ValueError("the transfer coding is not supported")
    if lengths and not (lengths[0].isdigit() and len(lengths[0]) < 20):
        raise ValueError("the length of the body is not a number")
    return Length(bool(codings), lengths[0] if lengths else None)


def upgrade_of(headers: Headers) -> bytes:
    """Return the protocol that a request asks for; empty: none."""
    options = b",".join(value for name, _, value in headers if name == b"connection")
    if b"upgrade" not in {each.strip() for each in options.lower().split(b",")}:
        return b""
    return b", ".join(value for name, _, value in headers if name == b"upgrade")


def hops_of(headers: Headers) -> int:
    """Return how often a request came through the agent's own port already.

    Raises:
        InvalidRequestError: Too often.
    """
    given = next((value for name, _, value in headers if name == HOPS), b"0")
    hops = int(given) if given.isdigit() and len(given) < 4 else HOPS_MAX
    if hops >= HOPS_MAX:
        raise InvalidRequestError(
            f"the request passed the agent's own port {HOPS_MAX} times"
        )
    return hops


def request_head(facts: RequestFacts, headers: Headers, length: Length) -> bytes:
    """Return the head to send to an application."""
    lines = [
        _bytes(f"{facts.method} {facts.target} HTTP/1.1"),
        b"Host: localhost:%d" % facts.port,
    ]
    lines += [
        b"%b: %b" % (name, value)
        for key, name, value in end_to_end(headers)
        if key not in OURS
    ]
    lines += _forwarded(facts, headers)
    if any(key == b"te" and b"trailers" in value.lower() for key, _, value in headers):
        lines.append(b"TE: trailers")
    if facts.hops:
        lines.append(b"%b: %d" % (HOPS, facts.hops))
    if facts.upgrade:
        lines += [b"Connection: Upgrade", b"Upgrade: " + facts.upgrade]
    return b"\r\n".join([*lines, *_framing(length), b"", b""])


def _forwarded(facts: RequestFacts, headers: Headers) -> list[bytes]:
    """Return the lines that tell an application where the request came from."""
    peers = [value for key, _, value in headers if key == b"x-forwarded-for"]
    lines = [b"X-Forwarded-For: " + b", ".join([*peers, facts.peer.encode()])]
    names = {key: value for key, _, value in headers}
    host = names.get(b"host")
    if host and b"x-forwarded-host" not in names:
        lines.append(b"X-Forwarded-Host: " + host)
    return lines


def check_answer_head(head: bytes) -> None:
    """Refuse a head that two readers could read in two ways.

    Raises:
        RemoteError: The application's answer is not well-formed.
    """
    found = MALFORMED.search(head)
    if found is not None:
        raise RemoteError("the service's answer is malformed")


def status_line(status: int, reason: str) -> bytes:
    """Return the first line of an answer."""
    return _bytes(f"HTTP/1.1 {status} {reason}")


def answer_head(
    first: bytes, headers: Headers, length: Length, options: Iterable[bytes]
) -> bytes:
    """Return the head to send to a client.

    Args:
        first: The status line.
        headers: End to end, the length left out.
        length: What is said of it.
        options: Further lines, about this connection.
    """
    lines = [first, *(b"%b: %b" % (name, value) for _, name, value in headers)]
    return b"\r\n".join([*lines, *_framing(length), *options, b"", b""])


def _framing(length: Length) -> tuple[bytes, ...]:
    if length.is_chunked:
        return (b"Transfer-Encoding: chunked",)
    return () if length.exact is None else (b"Content-Length: " + length.exact,)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
