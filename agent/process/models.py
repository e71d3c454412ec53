"""The wire shapes of execute."""

from typing import Annotated

from msgspec import Meta

from agent import wire

Seconds = Annotated[float, Meta(ge=0)]
"""A time limit; a fraction is rounded up, 0 means none (contract 30 §2.3)."""


class ExecuteRequest(wire.Model, frozen=True, kw_only=True):
    """The body of `/process/execute`."""

    command: str
    cwd: str | None = None
    envs: dict[str, str] | None = None
    timeout: Seconds | None = None


class ExecuteResponse(wire.Model, frozen=True, kw_only=True):
    """The answer of `/process/execute`."""

    exit_code: int
    result: str
    """Standard output and standard error in the order in which they were written."""
