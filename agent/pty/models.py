"""Shapes of terminals on the wire (contract 32)."""

from collections.abc import Mapping
from typing import Literal

from agent.wire import UNSET, Model, UnsetType


class PtyCreateRequest(Model, frozen=True, kw_only=True):
    """What to open; a size of 0 is the default one."""

    id: str | None = None
    cwd: str | None = None
    envs: Mapping[str, str] | None = None
    cols: int | None = None
    rows: int | None = None
    lazy_start: bool | None = None


class PtyCreateResponse(Model, frozen=True, kw_only=True):
    """What was opened."""

    session_id: str


class PtySessionInfo(Model, frozen=True, kw_only=True):
    """A terminal; `active` says that its shell runs."""

    id: str
    cwd: str
    envs: Mapping[str, str]
    cols: int
    rows: int
    created_at: str
    active: bool
    lazy_start: bool


class PtyListResponse(Model, frozen=True, kw_only=True):
    """All terminals, in the order they were created in."""

    sessions: list[PtySessionInfo]


class PtyResizeRequest(Model, frozen=True, kw_only=True):
    """The size to set."""

    cols: int
    rows: int


class PtyDeleteResponse(Model, frozen=True, kw_only=True):
    """The word that it is gone."""

    message: str = "PTY session deleted"


class Control(Model, frozen=True, kw_only=True, tag_field="type", tag="control"):
    """A text message of the websocket, beside the terminal's own bytes.

    Attributes:
        status: `connected` is the first message of all, `exited` the last.
        error: Of `error`: why the client was not connected.
        offset: Of `connected`, for clients that gave an offset: where in the terminal's
            output the first byte is that follows.
        exit_code: Of `exited`.
        exit_reason: Of `exited`, unless the exit code is 0.
    """

    status: Literal["connected", "error", "exited"]
    error: str | UnsetType = UNSET
    offset: int | UnsetType = UNSET
    exit_code: int | UnsetType = UNSET
    exit_reason: str | UnsetType = UNSET


class CloseReason(Model, frozen=True, kw_only=True):
    """The reason of a close frame, as JSON."""

    exit_code: int | UnsetType = UNSET
    exit_reason: str | UnsetType = UNSET
    error: str | UnsetType = UNSET
    offset: int | UnsetType = UNSET


class Facts(Model, frozen=True, kw_only=True):
    """What is known of a terminal beside its process: the label of its job.

    Attributes:
        environment: As it was asked for, and `TERM`.
        created: RFC 3339.
    """

    id: str
    cwd: str
    environment: dict[str, str]
    created: str
    lazy: bool


class Unstarted(Model, frozen=True, kw_only=True):
    """A terminal whose shell waits for its first client, as the keeper holds it."""

    facts: Facts
    rows: int
    columns: int
