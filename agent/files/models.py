"""What the file routes take and send."""

from typing import Annotated

import msgspec
from msgspec import field

from agent import wire
from agent.wire import UNSET, UnsetType


class FileInfo(wire.Model, frozen=True, kw_only=True):
    """One entry of the file system (contract 10 §0)."""

    name: str
    path: str | UnsetType = UNSET
    size: int
    mode: str
    permissions: str
    mod_time: str
    modified_at: str
    is_dir: bool
    owner: str
    group: str
    sha256: str | UnsetType = UNSET


class BulkDownloadRequest(wire.Model, frozen=True, kw_only=True):
    """The files wanted, in the order of the answer's parts."""

    paths: Annotated[list[str], msgspec.Meta(min_length=1)]


class UploadedFile(wire.Model, frozen=True, kw_only=True):
    """What one upload stored."""

    name: str
    path: str
    type: str = "file"


class StoredFile(wire.Model, frozen=True, kw_only=True):
    """One file that a bulk upload stored."""

    path: str
    size_bytes: int = field(name="bytes")


class BulkUploadResult(wire.Model, frozen=True, kw_only=True):
    """All files that a bulk upload stored, in the order in which they came."""

    files: list[StoredFile]
