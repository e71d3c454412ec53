"""What the routes about ports say (contract 50 §1-2)."""

from typing import Literal

from agent import wire
from agent.wire import UNSET, UnsetType


class ListeningSocket(wire.Model, frozen=True, kw_only=True):
    """One socket that waits for connections."""

    port: int
    address: str
    """Where it listens, without brackets."""
    pid: int | None
    """The oldest process that has it; null: another user's."""
    command: str | None
    """That process's command line."""


class PortList(wire.Model, frozen=True, kw_only=True):
    """The ports on which something listens."""

    ports: list[int]
    sockets: list[ListeningSocket] | UnsetType = UNSET


class IsPortInUse(wire.Model, frozen=True, kw_only=True):
    """Whether something listens on a port."""

    is_in_use: bool


class PortEvent(wire.Model, frozen=True, kw_only=True):
    """What a watch of ports tells; `ports` are all that are open, then."""

    kind: Literal["snapshot", "opened", "closed"]
    port: int | UnsetType = UNSET
    ports: list[int] | UnsetType = UNSET
