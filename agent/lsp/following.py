"""Tells a server what changed on the disk, before it is asked anything."""

import asyncio

from agent.files.threads import Threads
from agent.lsp.candidates import Family
from agent.lsp.client import Client
from agent.lsp.documents import Documents
from agent.lsp.places import Project, uri_of
from agent.lsp.watching import CHANGED, PACKAGES, Change, Watch

REMEMBERED_MAX = 10_000
"""Changed files kept for the symbol index; of more it looks for itself."""


class Disk:
    """What happens to the files of one project.

    Args:
        project: Its directory.
        family: Whose files count.
        threads: For looking at the disk.

    Attributes:
        count: How often something was told.
        recent: What changed since it was taken last; None: nobody knows.
        unknown: Source files that came or went since a question about all of them.
        packages: Some came or went since the server was set up.
    """

    def __init__(self, project: Project, family: Family, threads: Threads) -> None:
        self.count = 0
        self.recent: set[str] | None = None
        self.unknown: set[str] = set()
        self.packages = False
        self._suffixes = tuple(family.suffixes)
        self._watch = Watch(project.path, self._suffixes)
        self._threads = threads
        self._begun = False
        self._is_over = False
        # One at a time, or a question could overtake what it is to be told.
        self._lock = asyncio.Lock()

    async def begin(self) -> None:
        """Take in what there is, once."""
        async with self._lock:
            if not self._begun and not self._is_over:
                await self._threads.run(self._watch.begin)
                self._begun = True

    async def aclose(self) -> None:
        """Watch no more."""
        async with self._lock:
            self._is_over = True
            self._watch.close()

    async def tell(self, client: Client, documents: Documents) -> None:
        """Tell a server what it does not know yet.

        Raises:
            AgentError: The server is gone.
        """
        if not self._lock.locked() and self._watch.is_quiet():
            return
        async with self._lock:
            # A question that came before the end would begin to watch again.
            if self._is_over:
                return
            changes = await self._threads.run(self._watch.changes)
            if not changes:
                return
            self.count += 1
            paths = {each.path for each in changes}
            self._remember(changes)
            documents.doubt(paths)
            await client.notify(
                "workspace/didChangeWatchedFiles",
                {
                    "changes": [
                        {"uri": uri_of(each.path), "type": each.kind}
                        for each in changes
                    ]
                },
            )

    def take_recent(self) -> list[str] | None:
        """Return what changed since this was asked last; None: nobody knows."""
        recent = self.recent
        self.recent = set() if self._watch.is_whole else None
        return None if recent is None else sorted(recent)

    def _remember(self, changes: list[Change]) -> None:
        for each in changes:
            if any(f"/{name}/" in each.path for name in PACKAGES):
                self.packages = True
            elif each.kind != CHANGED and each.path.endswith(self._suffixes):
                self.unknown.add(each.path)
        if self.recent is not None:
            self.recent |= {each.path for each in changes}
            if not self._watch.is_whole or len(self.recent) > REMEMBERED_MAX:
                self.recent = None
