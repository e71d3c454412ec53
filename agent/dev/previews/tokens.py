"""What opens a preview: a port's token, a signed token, and the cookie of a browser.

A port's token is computed and lasts as long as the agent, api processes come and go. It
opens that port only, so that a link to an app is no key to the toolbox; but for those
ports whose token clients show to the toolbox, it is the agent's own. Signed tokens
are random, expire, can be revoked, and are kept in the keeper. A cookie says until when
it is good and for which port, and proves that it was made here.
"""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from agent.errors import NotFoundError, TooManyError
from agent.settings import Settings

STORED_AS = "dev.previews"
SIGNED_MAX = 512
"""Signed tokens that hold at once; a script that loops must not grow the agent."""
SIGNED_BYTES = 20
TOOLBOX_PORT = 2280
"""What clients call the toolbox's port, whichever one it listens on (contract 50 §4)."""
ASKED_PORT = 1
"""Whose token the JavaScript SDK asks for, in browsers, to open the toolbox's sockets."""
COOKIE_LIFETIME_S = 3600
"""Contract 50 §4."""


class Store(Protocol):
    """What outlasts an api process: the keeper."""

    async def kv_get(self, name: str) -> bytes | None:
        """Return what is held under a name."""

    async def kv_set(self, name: str, value: bytes) -> None:
        """Hold `value` under a name."""


class Signed(msgspec.Struct, frozen=True):
    """What a signed token opens, and until when (Unix seconds)."""

    port: int
    expires: float


class Tokens:
    """All that opens previews of one agent.

    Args:
        settings: Whose token and signing key the computed ones follow from.
        store: Where the signed ones are kept.
        clock: Wall time in Unix seconds.
    """

    def __init__(
        self, settings: Settings, store: Store, clock: Callable[[], float] = time.time
    ) -> None:
        self._agents = settings.token
        self._toolbox_ports = {TOOLBOX_PORT, ASKED_PORT, settings.port}
        secret = f"{settings.signing_key}\0{settings.token}".encode()
        self._key = hashlib.sha256(b"previews\0" + secret).digest()
        self._store = store
        self._clock = clock
        self._signed: dict[str, Signed] = {}
        # Two changes at once must not store the older state last.
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """Take over what an earlier api process has signed."""
        held = await self._store.kv_get(STORED_AS)
        self._signed = msgspec.json.decode(held or b"{}", type=dict[str, Signed])

    def of_port(self, port: int) -> str:
        """Return the token that opens a port."""
        if self._agents and port in self._toolbox_ports:
            return self._agents
        return self._prove(f"port:{port}")

    def opens(self, port: int, shown: str) -> bool:
        """Tell whether what a caller shows opens a port: its token, or the agent's."""
        return self.is_of_port(port, shown) or _are_same(shown, self._agents)

    def is_of_port(self, port: int, shown: str) -> bool:
        """Tell whether what a caller shows is the token of a port itself."""
        return _are_same(shown, self.of_port(port))

    async def sign(self, port: int, lifetime_s: int) -> str:
        """Return a new token that opens a port for so long.

        Raises:
            TooManyError: As many as can be held are.
        """
        async with self._lock:
            now = self._clock()
            held = {
                key: each for key, each in self._signed.items() if each.expires > now
            }
            if len(held) >= SIGNED_MAX:
                raise TooManyError(f"{SIGNED_MAX} signed previews exist; expire some")
            token = secrets.token_hex(SIGNED_BYTES)
            await self._keep(held | {token: Signed(port, now + lifetime_s)})
        return token

    def is_signed_for(self, port: int, token: str) -> bool:
        """Tell whether a signed token opens a port now."""
        found = self._signed.get(token)
        return (
            found is not None and found.port == port and found.expires > self._clock()
        )

    async def expire(self, port: int, token: str) -> None:
        """Let a signed token open nothing any more.

        Raises:
            NotFoundError: There is none such for this port.
        """
        async with self._lock:
            found = self._signed.get(token)
            if found is None or found.port != port:
                raise NotFoundError(f"no signed preview of port {port} has this token")
            await self._keep({k: v for k, v in self._signed.items() if k != token})

    async def expire_all(self) -> None:
        """Let no signed token open anything any more."""
        async with self._lock:
            await self._keep({})

    def cookie(self, port: int) -> str:
        """Return the value of a cookie that opens a port for an hour."""
        expires = int(self._clock()) + COOKIE_LIFETIME_S
        return f"{expires}.{self._prove(f'cookie:{port}:{expires}')}"

    def is_cookie_of(self, port: int, value: str) -> bool:
        """Tell whether a cookie's value opens a port now."""
        expires, _, proof = value.partition(".")
        if not expires.isascii() or not expires.isdigit():
            return False
        wanted = self._prove(f"cookie:{port}:{expires}")
        return _are_same(proof, wanted) and int(expires) > self._clock()

    def _prove(self, what: str) -> str:
        return hmac.new(self._key, what.encode(), hashlib.sha256).hexdigest()

    async def _keep(self, signed: dict[str, Signed]) -> None:
        # Stored first: what the keeper did not take is not answered either.
        await self._store.kv_set(STORED_AS, msgspec.json.encode(signed))
        self._signed = signed


def _are_same(shown: str, wanted: str) -> bool:
    # Bytes, because compare_digest refuses text that is not ASCII.
    given = shown.encode("utf-8", "surrogateescape")
    return bool(wanted) and hmac.compare_digest(given, wanted.encode())
