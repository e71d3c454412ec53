"""Tokens for SSH, as the control plane hands them out.

They are made, checked and revoked, and nothing more as long as the agent serves no SSH.
"""

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

from agent.dev.models import SshAccess
from agent.errors import TooManyError

SSH_PORT = 22220
"""Where a sandbox has its SSH server (contract 70 §4)."""
DEFAULT_MINUTES = 60
MAX_ACCESSES = 256
"""Tokens held at once; a script that loops must not grow the agent."""


class SshAccesses:
    """All tokens that hold.

    Args:
        host: Where the SSH server would be.
        clock: The time of day.
    """

    def __init__(self, host: str, clock: Callable[[], datetime]) -> None:
        self._host = host
        self._clock = clock
        self._held: dict[str, SshAccess] = {}

    def create(self, sandbox_id: str, minutes: int | None) -> SshAccess:
        """Make a token that holds for so many minutes.

        Raises:
            TooManyError: As many as can be held are.
        """
        self._forget_expired()
        if len(self._held) >= MAX_ACCESSES:
            raise TooManyError(f"{MAX_ACCESSES} ssh accesses exist; revoke some")
        now = self._clock()
        token = secrets.token_urlsafe(24)
        access = SshAccess(
            id=secrets.token_hex(8),
            sandbox_id=sandbox_id,
            token=token,
            expires_at=now + timedelta(minutes=minutes or DEFAULT_MINUTES),
            created_at=now,
            updated_at=now,
            ssh_command=f"ssh -p {SSH_PORT} {token}@{self._host}",
        )
        self._held[token] = access
        return access

    def holds(self, token: str) -> bool:
        """Tell whether a token still holds."""
        self._forget_expired()
        return token in self._held

    def revoke(self, token: str | None = None) -> None:
        """Forget a token; none named: all."""
        if token is None:
            self._held.clear()
        else:
            self._held.pop(token, None)

    def _forget_expired(self) -> None:
        now = self._clock()
        self._held = {
            token: access
            for token, access in self._held.items()
            if access.expires_at > now
        }
