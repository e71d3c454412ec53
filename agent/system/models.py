"""The wire shapes of version, health, directories, environment and metrics."""

from msgspec import field

from agent import wire
from agent.wire import UNSET, UnsetType


class Version(wire.Model, frozen=True, kw_only=True):
    """The answer of `/version`."""

    version: str


class Health(wire.Model, frozen=True, kw_only=True):
    """The answer of `/health`: states only, nothing about what runs."""

    status: str
    """`ok`, or `draining` once the agent was asked to stop."""
    api: str
    keeper: str


class Directory(wire.Model, frozen=True, kw_only=True):
    """The answer of the directory routes."""

    dir: str


class Message(wire.Model, frozen=True, kw_only=True):
    """An answer that only says that it was done."""

    message: str


class InitRequest(wire.Model, frozen=True, kw_only=True):
    """The body of `/init`; every client may leave it empty."""

    token: str | None = None


class EnvironmentRequest(wire.Model, frozen=True, kw_only=True):
    """The body of `/env`: what to remove, then what to set (contract 05)."""

    set_: dict[str, str] | None = field(name="set", default=None)
    unset: list[str] | None = None
    unset_value_prefix: str | None = None


class Metrics(wire.Model, frozen=True, kw_only=True):
    """The answer of `/system/metrics`; sizes in bytes."""

    timestamp: str
    timestamp_unix: int
    cpu_count: int
    cpu_used_pct: float
    mem_used: int
    mem_total: int
    mem_cache: int
    disk_used: int
    disk_total: int
    disk_free: int


class ProcessUse(wire.Model, frozen=True, kw_only=True):
    """One process of the sandbox."""

    pid: int
    parent: int
    name: str
    """The program's, at most 15 bytes; never its arguments."""
    user: str | None
    cpu_pct: float
    """Of one core, since the request before; since its start, when it is new."""
    mem_rss: int


class Load(wire.Model, frozen=True, kw_only=True):
    """How many processes want to run, averaged over so many minutes."""

    one: float
    five: float
    fifteen: float
    processes: int
    """How many there are."""


class Network(wire.Model, frozen=True, kw_only=True):
    """Bytes over all interfaces but the loopback since they are up."""

    bytes_sent: int
    bytes_received: int


class DetailedMetrics(Metrics, frozen=True, kw_only=True):
    """The answer of `/system/metrics`; what follows only to who asks for it."""

    processes: list[ProcessUse] | UnsetType = UNSET
    load: Load | UnsetType = UNSET
    network: Network | UnsetType = UNSET
    history: list[Metrics] | UnsetType = UNSET
