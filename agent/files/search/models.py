"""What the search routes take and send (contract 10 §11-13)."""

from typing import Annotated

import msgspec

from agent import wire
from agent.wire import UNSET, UnsetType


class Match(wire.Model, frozen=True, kw_only=True):
    """One matching line; the lines around it only when they were asked for."""

    file: str
    line: int
    content: str
    before: list[str] | UnsetType = UNSET
    after: list[str] | UnsetType = UNSET


class SearchFilesResponse(wire.Model, frozen=True, kw_only=True):
    """The paths whose names match."""

    files: list[str]


class ReplaceRequest(wire.Model, frozen=True, kw_only=True):
    """What to replace, by what, and where."""

    files: list[str]
    pattern: Annotated[str, msgspec.Meta(min_length=1)]
    new_value: str


class ReplaceResult(wire.Model, frozen=True, kw_only=True):
    """What came of one file."""

    file: str
    success: bool
    error: str | UnsetType = UNSET
