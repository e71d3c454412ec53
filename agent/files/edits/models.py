"""What the routes of edits take and send."""

from typing import Annotated

import msgspec

from agent import wire

EDITS_MAX = 1000
"""Edits of one request."""

Path = Annotated[str, msgspec.Meta(min_length=1)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class _Edit(wire.Model, frozen=True, kw_only=True, tag_field="type"):
    """One edit of the file at `path`.

    `sha256` and `modified_at` say what the file has to be on the disk before the request.
    """

    path: Path
    sha256: Sha256 | None = None
    modified_at: str | None = None


class WriteEdit(_Edit, frozen=True, kw_only=True, tag="write"):
    """Give the file this content; make it, and its parents, if it is not there."""

    content: str


class ReplaceEdit(_Edit, frozen=True, kw_only=True, tag="replace"):
    """Replace exact text, which must be there `count` times."""

    old: Annotated[str, msgspec.Meta(min_length=1)]
    new: str
    count: Annotated[int, msgspec.Meta(ge=1)] = 1


class InsertEdit(_Edit, frozen=True, kw_only=True, tag="insert"):
    """Insert text so that it begins at `line`; one after the last line appends."""

    line: Annotated[int, msgspec.Meta(ge=1)]
    text: str


class DeleteEdit(_Edit, frozen=True, kw_only=True, tag="delete"):
    """Delete the file."""


class MoveEdit(_Edit, frozen=True, kw_only=True, tag="move"):
    """Give the file a free name; parents are made."""

    destination: Path


class DiffEdit(_Edit, frozen=True, kw_only=True, tag="diff"):
    """Apply the unified diff of one file; names in its head are not looked at."""

    diff: str


Edit = WriteEdit | ReplaceEdit | InsertEdit | DeleteEdit | MoveEdit | DiffEdit


class EditRequest(wire.Model, frozen=True, kw_only=True):
    """Edits to be made in their order, all or none."""

    edits: Annotated[list[Edit], msgspec.Meta(min_length=1, max_length=EDITS_MAX)]
    dry_run: bool = False


class EditedFile(wire.Model, frozen=True, kw_only=True):
    """One file that is different; a hash that is null: it was, or is, not there."""

    path: str
    previous_sha256: str | None = msgspec.field(name="previousSha256")
    sha256: str | None
    diff: str
    diff_cut: bool = False


class EditResult(wire.Model, frozen=True, kw_only=True):
    """What was edited, and the `id` by which it can be undone; null when nothing was."""

    id: str | None
    files: list[EditedFile]
