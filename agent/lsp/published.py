"""The diagnostics that a server tells of its own accord: the latest of each document."""

import asyncio
from dataclasses import dataclass

from agent.lsp.places import path_of

DOCUMENTS_MAX = 5000
"""Whose diagnostics are kept; of more, those told of longest ago are dropped."""


@dataclass(frozen=True)
class Publication:
    """What was told of one document.

    Attributes:
        version: Of the text that it is about, if the server said.
        items: The diagnostics, as they came.
        number: Counts what was told, so that what is new can be told from what is not.
    """

    version: int | None
    items: list[object]
    number: int


class Published:
    """What one server has told."""

    def __init__(self) -> None:
        self.count = 0
        self.dropped = 0
        self._latest: dict[str, Publication] = {}
        self._waiters: set[asyncio.Event] = set()

    def take(self, params: object) -> None:
        """Take what the server told."""
        if not isinstance(params, dict):
            return
        path = path_of(str(params.get("uri", "")))
        items = params.get("diagnostics")
        if path is None or not isinstance(items, list):
            return
        version = params.get("version")
        self.count += 1
        self._latest.pop(path, None)
        self._latest[path] = Publication(
            version if isinstance(version, int) else None, items, self.count
        )
        while len(self._latest) > DOCUMENTS_MAX:
            self._latest.pop(next(iter(self._latest)))
            self.dropped += 1
        for each in self._waiters:
            each.set()

    def get(self, path: str) -> Publication | None:
        """Return the latest of a document."""
        return self._latest.get(path)

    def paths(self) -> tuple[str, ...]:
        """Return the documents of which something was told."""
        return tuple(self._latest)

    def forget(self, path: str) -> None:
        """Drop what was told of a document."""
        self._latest.pop(path, None)

    def clear(self) -> None:
        """Drop everything."""
        self._latest.clear()

    async def newer(
        self, path: str, version: int, after: int, limit_s: float
    ) -> Publication | None:
        """Return what is told of a version, or after a moment; None when nothing came.

        Args:
            path: The document.
            version: What a server that names versions must have looked at.
            after: The count before which nothing counts of one that does not.
            limit_s: For which it is waited.
        """
        bell = asyncio.Event()
        self._waiters.add(bell)
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    bell.clear()
                    latest = self._latest.get(path)
                    if latest is not None and _is_about(latest, version, after):
                        return latest
                    await bell.wait()
        except TimeoutError:
            return None
        finally:
            self._waiters.discard(bell)


def _is_about(latest: Publication, version: int, after: int) -> bool:
    if latest.version is not None:
        return latest.version >= version
    return latest.number > after
