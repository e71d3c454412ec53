"""Connections to what listens on loopback, kept for a while when they could be used again."""

import asyncio
import contextlib
import socket

from agent.errors import RemoteError
from agent.ports.proxy.upstream import Upstream

CONNECT_LIMIT_S = 5.0
"""On loopback; longer only when the listener's backlog is full."""
IDLE_LIMIT_S = 30.0
IDLE_MAX = 256
"""Idle connections, to all ports together."""
GRACE_PAUSE_S = 0.02
"""Between two attempts while a service that starts up is waited for."""
ADDRESSES_MAX = 1024
"""Ports whose address is remembered."""

LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
"""Development servers often listen on one of them only."""

Address = tuple[socket.AddressFamily, str]


class Pool:
    """All connections to applications.

    Args:
        grace_s: Time for which a service that does not listen yet is waited for.
        idle_limit_s: Time for which an idle connection is kept.
    """

    def __init__(self, grace_s: float, idle_limit_s: float = IDLE_LIMIT_S) -> None:
        self._grace_s = grace_s
        self._idle_limit_s = idle_limit_s
        self._idle: dict[int, list[Upstream]] = {}
        self._expiries: dict[Upstream, tuple[int, asyncio.TimerHandle]] = {}
        self._all: set[Upstream] = set()
        self._worked: dict[int, Address] = {}
        self._emptied: asyncio.Event | None = None

    @property
    def idle_count(self) -> int:
        """How many of them wait to be used again."""
        return len(self._expiries)

    @property
    def open_count(self) -> int:
        """How many connections are open."""
        return len(self._all)

    def take_idle(self, port: int) -> Upstream | None:
        """Return a connection that was used before, the last one first."""
        for upstream in reversed(self._idle.get(port, ())):
            if upstream.is_usable:
                self._take_out(upstream)
                return upstream
        return None

    def give_back(self, port: int, upstream: Upstream) -> None:
        """Keep a connection for the next request, if there can be one."""
        if not upstream.is_reusable or len(self._expiries) >= IDLE_MAX:
            upstream.abort()
            return
        upstream.rest()
        loop = asyncio.get_running_loop()
        expiry = loop.call_later(self._idle_limit_s, upstream.abort)
        self._expiries[upstream] = port, expiry
        self._idle.setdefault(port, []).append(upstream)

    def _take_out(self, upstream: Upstream) -> None:
        """Keep a connection no longer, if it was kept."""
        port, expiry = self._expiries.pop(upstream, (0, None))
        if expiry is not None:
            expiry.cancel()
            self._idle[port].remove(upstream)
            if not self._idle[port]:
                del self._idle[port]

    async def connect(self, port: int) -> Upstream:
        """Open a connection to what listens on a port.

        Raises:
            RemoteError: Nothing does, or it takes no connections.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._grace_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_LIMIT_S):
                while True:
                    upstream = await self._attempt(port)
                    if upstream is not None:
                        return upstream
                    if loop.time() >= ends:
                        break
                    await asyncio.sleep(GRACE_PAUSE_S)
        raise RemoteError(f"no service is listening on port {port}")

    async def aclose(self) -> None:
        """Cut all connections."""
        for upstream in tuple(self._all):
            upstream.abort()
        if self._all:
            # What is cut is told so in the loop's next turn.
            self._emptied = asyncio.Event()
            await self._emptied.wait()

    def _forget(self, upstream: Upstream) -> None:
        self._all.discard(upstream)
        self._take_out(upstream)
        if self._emptied is not None and not self._all:
            self._emptied.set()

    async def _attempt(self, port: int) -> Upstream | None:
        known = self._worked.get(port)
        for address in sorted(LOOPBACK, key=lambda each: each != known):
            upstream = await self._open(address, port)
            if upstream is not None:
                if len(self._worked) >= ADDRESSES_MAX:
                    self._worked.clear()
                self._worked[port] = address
                return upstream
        return None

    async def _open(self, address: Address, port: int) -> Upstream | None:
        family, host = address
        loop = asyncio.get_running_loop()
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            # A system without IPv6.
            return None
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, (host, port))
            # The kernel takes the number of our end from the range in which many
            # listeners have theirs; when it happens to be this one we are connected to
            # ourselves, with nobody listening (RFC 9293, simultaneous open).
            if sock.getsockname() == sock.getpeername():
                sock.close()
                return None
            _, upstream = await loop.create_connection(Upstream, sock=sock)
        except OSError:
            sock.close()
            return None
        except BaseException:
            sock.close()
            raise
        upstream.on_lost = self._forget
        self._all.add(upstream)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return upstream
