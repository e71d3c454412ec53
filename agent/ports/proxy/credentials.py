"""Takes off what an application behind the proxy must not learn.

The agent's own token, the tokens of the platform's proxy and its cookie open the whole
sandbox to whoever has them, and what listens on a port may be anybody's code (decision 22).
Everything else is the application's, its own `Authorization` included.
"""

from collections.abc import Callable
from typing import NamedTuple

from agent.web.query import unquote


class Header(NamedTuple):
    """One line of a head."""

    key: bytes
    """Its name in lower case."""
    name: bytes
    value: bytes


Headers = list[Header]
IsToken = Callable[[str], bool]

PLATFORM = frozenset({b"x-daytona-preview-token", b"x-daytona-authorization"})
GUARDED = PLATFORM | {b"authorization", b"cookie", b"sec-websocket-protocol"}
COOKIE = b"daytona-sandbox-auth-"
"""Begins the name of the platform's cookies."""
QUERY_KEY = "DAYTONA_SANDBOX_AUTH_KEY"


def without_credentials(headers: Headers, is_token: IsToken) -> Headers:
    """Return the headers that an application may see."""
    kept: Headers = []
    for header in headers:
        key, name, value = header
        if key in GUARDED:
            if key in PLATFORM:
                continue
            shown = _shown(key, value, is_token)
            if shown == value:
                kept.append(header)
            elif shown:
                kept.append(Header(key, name, shown))
        else:
            kept.append(header)
    return kept


def query_without_token(query: str, is_token: IsToken) -> str:
    """Return a raw query without the agent's token; every other byte stays."""
    if "=" not in query or not any(map(is_token, _values(query))):
        return query
    pairs = query.split("&")
    return "&".join(each for each in pairs if not any(map(is_token, _values(each))))


def _values(query: str) -> list[str]:
    """Return the values under which a query could carry the token."""
    found = []
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if unquote(name) == QUERY_KEY:
            found.append(unquote(value.replace("+", " ")))
    return found


def _shown(key: bytes, value: bytes, is_token: IsToken) -> bytes:
    """Return what an application may see of a header."""
    if key == b"authorization":
        return b"" if _shows_token(value, is_token) else value
    if key == b"cookie":
        return _without_cookies(value) if COOKIE in value.lower() else value
    return _without_tokens(value, is_token)


def _shows_token(value: bytes, is_token: IsToken) -> bool:
    scheme, _, shown = value.partition(b" ")
    return scheme.lower() == b"bearer" and is_token(_text(shown.strip()))


def _without_cookies(value: bytes) -> bytes:
    pairs = (each.strip() for each in value.split(b";"))
    kept = [each for each in pairs if not each.lower().startswith(COOKIE)]
    return b"; ".join(kept)


def _without_tokens(value: bytes, is_token: IsToken) -> bytes:
    offered = [each.strip() for each in value.split(b",")]
    kept = [each for each in offered if not is_token(_text(each))]
    return value if len(kept) == len(offered) else b", ".join(kept)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
