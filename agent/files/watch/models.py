"""What a listener is told."""

from typing import Literal

from msgspec import field

from agent.wire import UNSET, Model, UnsetType

Kind = Literal["ready", "created", "modified", "deleted", "moved", "overflow", "gone"]


class WatchEvent(Model, frozen=True, kw_only=True):
    """One thing that happened.

    Attributes:
        sequence: Rises by one for each event of the tree; a client that comes back says
            the last one that it has.
        kind: `ready` is the first word of every answer, `overflow` says that events were
            lost and that the client has to look for itself, `gone` that there is nothing
            left to watch.
        path: What it happened to, written as the watched path was; a move's new place.
        source: Where a move began; `from` on the wire.
        time: When it was noticed (RFC 3339).
    """

    sequence: int
    kind: Kind
    path: str | UnsetType = UNSET
    source: str | UnsetType = field(name="from", default=UNSET)
    time: str
