"""The owner of edits: one at a time, in a thread of their own."""

import os

from agent.errors import ConflictError
from agent.files.edits.diffs import diff_of
from agent.files.edits.journal import Change, EditJournal
from agent.files.edits.models import EditedFile, EditRequest, EditResult
from agent.files.edits.view import Found, Seen, View, look_at
from agent.files.hashes import sha256_of
from agent.files.paths import Paths
from agent.files.threads import Threads
from agent.wire import printable


class Edits:
    """The edits of the sandbox's files.

    Args:
        work_dir: The absolute directory that relative paths start from.
        state_dir: The agent's state directory.
    """

    def __init__(self, work_dir: str, state_dir: str) -> None:
        self._paths = Paths(work_dir)
        self._journal = EditJournal(state_dir)
        # One, so that edits of one file compose or conflict, but never mix.
        self._threads = Threads("edits", 1)

    async def open(self) -> None:
        """Finish, or take back, what agents that were killed were about."""
        if self._journal.exists:
            await self._threads.run(self.recover)

    async def aclose(self) -> None:
        """Wait a moment for what is running."""
        await self._threads.aclose()

    async def edit(self, request: EditRequest) -> EditResult:
        """Make edits, all or none.

        Raises:
            AgentError: An edit makes no sense, or a file is not what it counts on.
            OSError: A file is missing, or the system refuses.
        """
        return await self._threads.run(self.edit_now, request)

    async def undo(self, name: str) -> EditResult:
        """Take an edit back; the result names the edit by which to do it again.

        Raises:
            NotFoundError: There is no such edit, or not any more.
            ConflictError: A file of it was changed since.
            OSError: The system refuses.
        """
        return await self._threads.run(self.undo_now, name)

    def recover(self) -> None:
        """Finish, or take back, what processes that died were about."""
        with self._journal.alone():
            self._journal.recover()

    def edit_now(self, request: EditRequest) -> EditResult:
        """Make edits in this thread."""
        if request.dry_run:
            return EditResult(id=None, files=_told(self._planned(request)))
        with self._journal.alone():
            return self._make(self._planned(request))

    def _planned(self, request: EditRequest) -> list[Seen]:
        view = View(self._paths)
        for edit in request.edits:
            view.apply(edit)
        return view.changed()

    def _make(self, files: list[Seen]) -> EditResult:
        if not files:
            return EditResult(id=None, files=[])
        # Before anything is changed, so that nothing can fail any more afterwards.
        told = _told(files)
        name = self._journal.make(files)
        self._journal.prune()
        return EditResult(id=name, files=told)

    def undo_now(self, name: str) -> EditResult:
        """Take an edit back in this thread."""
        with self._journal.alone():
            record, befores = self._journal.read(name)
            files = [
                _back(change, content)
                for change, content in zip(record.changes, befores, strict=True)
            ]
            result = self._make(files)
            for directory in reversed(record.directories):
                _remove_empty(directory)
            self._journal.forget(name)
        return result


def _back(change: Change, content: bytes | None) -> Seen:
    """Return a file that is to be what it was before a change."""
    given, path = os.fsdecode(change.given), os.fsdecode(change.path)
    found: Found | None = None
    if os.path.lexists(path):
        if os.path.islink(path):
            raise ConflictError(f"{given}: became a link since the edit")
        found = look_at(path, given)
    if (sha256_of(found.content) if found else None) != change.after:
        how = "is not there any more" if found is None else "was changed since the edit"
        raise ConflictError(f"{given}: {how}")
    # A mode that was set since the edit is not the edit's to take back.
    kept = found.kept if found else change.before_kept
    return Seen(given=given, path=path, found=found, content=content, kept=kept)


def _remove_empty(directory: bytes) -> None:
    try:
        os.rmdir(directory)
    except OSError:
        # Somebody put something there since.
        return


def _told(files: list[Seen]) -> list[EditedFile]:
    told = []
    for seen in files:
        given = printable(seen.given)
        diff = diff_of(given, seen.before, seen.content)
        told.append(
            EditedFile(
                path=given,
                previous_sha256=_hash(seen.before),
                sha256=_hash(seen.content),
                diff=diff.text,
                diff_cut=diff.cut,
            )
        )
    return told


def _hash(content: bytes | None) -> str | None:
    return None if content is None else sha256_of(content)
