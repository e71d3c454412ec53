"""What the archive routes take and answer."""

from typing import Literal

from agent.wire import Model

ArchiveFormat = Literal["tar", "tar.gz", "tar.zst", "zip"]


class Extracted(Model, frozen=True, kw_only=True):
    """What came of an archive.

    Attributes:
        entries: Files, directories and links that were made.
        bytes: Content that was written.
        skipped: What was left out, each with its reason; the first thousand.
        skipped_count: How many were left out.
    """

    entries: int
    bytes: int
    skipped: list[str]
    skipped_count: int
