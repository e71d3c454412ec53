"""The wire shapes of the control plane, as both generations of SDKs read them.

What an SDK cannot do without is in `Sandbox` and `Listing` (contract 70 §12.2); unknown
keys of a request are ignored, as everywhere.
"""

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from agent import wire

MAX_MINUTES = 10 * 366 * 24 * 60
"""Ten years: beyond any use, and well within what a date can say."""
Minutes = Annotated[int, msgspec.Meta(ge=-1, le=MAX_MINUTES)]
"""A number of minutes; -1 is never, where the platform knows such a thing."""
Lifetime = Annotated[int, msgspec.Meta(ge=1, le=24 * 60 * 60)]
"""For how many seconds a signed preview address holds: a day at most."""

State = Literal["started", "stopped", "destroyed"]
"""The states that the stand-in knows; every SDK knows them too."""


class Sandbox(wire.Model, frozen=True, kw_only=True):
    """The sandbox, with what either generation requires."""

    id: str
    organization_id: str
    name: str
    user: str
    env: dict[str, str]
    labels: dict[str, str]
    public: bool = False
    network_block_all: bool = False
    kvm: bool = False
    target: str
    cpu: int
    gpu: int = 0
    memory: int
    disk: int
    state: State
    desired_state: State
    snapshot: str | wire.UnsetType = wire.UNSET
    sandbox_class: str = "container"
    daemon_version: str
    auto_stop_interval: int | wire.UnsetType = wire.UNSET
    auto_archive_interval: int | wire.UnsetType = wire.UNSET
    auto_delete_interval: int | wire.UnsetType = wire.UNSET
    auto_pause_interval: int | wire.UnsetType = wire.UNSET
    auto_destroy_at: datetime | wire.UnsetType = wire.UNSET
    created_at: datetime
    updated_at: datetime
    last_activity_at: datetime
    toolbox_proxy_url: str


class StateChange(wire.Model, frozen=True, kw_only=True):
    """What is told to followers when the sandbox's state is another."""

    sandbox: Sandbox
    old_state: State
    new_state: State


class CreateRequest(wire.Model, frozen=True, kw_only=True):
    """The body of `create`, as far as it can be followed or must be refused."""

    name: str | None = None
    user: str | None = None
    env: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    target: str | None = None
    public: bool | None = None
    snapshot: str | None = None
    auto_stop_interval: Minutes | None = None
    auto_archive_interval: Minutes | None = None
    auto_delete_interval: Minutes | None = None
    auto_pause_interval: Minutes | None = None
    ttl_minutes: Minutes | None = None
    # Only looked at for being there: the machine that the agent runs on has none of it.
    build_info: object = None
    volumes: object = None
    secrets: object = None
    linked_sandbox: object = None
    network_block_all: object = None
    network_allow_list: object = None
    domain_allow_list: object = None
    outbound_proxy_url: object = None


class Labels(wire.Model, frozen=True, kw_only=True):
    """The labels of a sandbox, asked for and answered."""

    labels: dict[str, str]


class Listing(wire.Model, frozen=True, kw_only=True):
    """One page of `list`, as today's SDKs read it; the first ones read a bare array."""

    items: list[Sandbox]
    next_cursor: str | None = None


class Url(wire.Model, frozen=True, kw_only=True):
    """Where the toolbox of a sandbox is."""

    url: str


class PreviewUrl(wire.Model, frozen=True, kw_only=True):
    """Where a port of the sandbox is, and the token that opens it as a header."""

    sandbox_id: str
    url: str
    token: str


class SignedPreviewUrl(wire.Model, frozen=True, kw_only=True):
    """An address that opens a port of the sandbox by itself, for a time."""

    sandbox_id: str
    port: int
    token: str
    url: str


class SshAccess(wire.Model, frozen=True, kw_only=True):
    """A token for the SSH server of the sandbox."""

    id: str
    sandbox_id: str
    token: str
    expires_at: datetime
    created_at: datetime
    updated_at: datetime
    ssh_command: str


class SshAccessCheck(wire.Model, frozen=True, kw_only=True):
    """Whether a token for SSH still holds."""

    valid: bool
    sandbox_id: str


class Oidc(wire.Model, frozen=True, kw_only=True):
    """The identity provider: there is none."""

    provider: str = "none"
    issuer: str = ""
    client_id: str = ""
    audience: str = ""


class Configuration(wire.Model, frozen=True, kw_only=True):
    """What an SDK may ask of the whole installation."""

    version: str
    oidc: Oidc = Oidc()
    linked_accounts_enabled: bool = False
    announcements: dict[str, str] = msgspec.field(default_factory=dict)
    proxy_template_url: str
    proxy_toolbox_url: str
    default_snapshot: str
    dashboard_url: str
    max_auto_archive_interval: int
    # The wire's own spelling.
    maintanance_mode: bool = False
    environment: str = "development"


class Problem(wire.Model, frozen=True, kw_only=True):
    """The shape of every failure of the control plane (contract 70 §12.3)."""

    status_code: int
    message: str
    error: str
