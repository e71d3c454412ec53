"""Opens the listening sockets, before anything else is done."""

import contextlib
import os
import socket

BACKLOG = 1024
"""Connections that wait while no api takes them; the kernel's own limit may be lower."""


class ListenError(Exception):
    """An address cannot be listened on; the message is one clear line."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address.

    Args:
        host: A name, an IPv4 or IPv6 literal (brackets allowed).
        port: 0 takes a free one.

    Raises:
        ListenError: The name means nothing here, or the port is taken.
    """
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        found = socket.getaddrinfo(
            bare, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise ListenError(f"cannot listen on {host!r}: {error}") from error
    # A name with both kinds of address means the older one: that is where clients that
    # know one only look.
    found.sort(key=lambda each: each[0] != socket.AF_INET)
    trouble: OSError | None = None
    for family, kind, protocol, _, address in found:
        try:
            return _bound(family, kind, protocol, address)
        except OSError as error:
            trouble = trouble or error
    reason = os.strerror(trouble.errno or 0) if trouble else "no address"
    raise ListenError(f"cannot listen on {host}:{port}: {reason}")


def _bound(family: int, kind: int, protocol: int, address: object) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # "::" is meant as "everywhere", whatever the system's default.
            with contextlib.suppress(OSError):
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(address)  # type: ignore[arg-type] # as getaddrinfo gave it
        # Told here too: of two that bound the same port at once, one fails only now.
        made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def port_of(bound: socket.socket) -> int:
    """Return the port a socket is bound to."""
    port: int = bound.getsockname()[1]
    return port
