"""The owner of checkpoints: makes, lists, compares, restores and forgets them.

    checkpoint = await checkpoints.create(path, message="before the upgrade")
    await checkpoints.restore(path, checkpoint.id, paths=[], dry_run=False)

One directory's checkpoints are changed one at a time. A restore also holds the lock of
the repository that the directory is in, so that no checkout of ours runs beside it.
"""

import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from agent.errors import AgentError, ConflictError, InvalidRequestError
from agent.files.journal import Journal
from agent.files.paths import told_as
from agent.files.threads import Threads
from agent.git.checkpoints.models import (
    Action,
    Checkpoint,
    CheckpointList,
    InterruptedRestore,
    RestoredEntry,
    RestoreResult,
)
from agent.git.checkpoints.names import enclosing, repository_at
from agent.git.checkpoints.plan import Plan
from agent.git.checkpoints.restoring import Restorer, UnsettledError
from agent.git.checkpoints.store import Interrupted, Record, Store
from agent.git.checkpoints.survey import Limits
from agent.git.checkpoints.taking import Taking
from agent.git.history.differences import Differences, Form, Found
from agent.git.registry import Repositories
from agent.settings import Settings
from agent.wire import UNSET, printable

DISK_THREADS = 4
"""Directories looked at, or restored, at once."""
MESSAGE_MAX_CHARS = 16 * 1024
CHANGES_TOLD_MAX = 1000
"""Entries that the answer to a restore names."""
PACKS_MAX = 40
"""Each checkpoint adds one; with so many, git gets slow, and they are made one."""
WORKING = "working"
"""Names the directory as it is just now, in a comparison."""


class Checkpoints:
    """The checkpoints of all directories.

    Args:
        repositories: Runs git.
        differences: Compares states.
        settings: Where they are kept, and how many.
    """

    def __init__(
        self, repositories: Repositories, differences: Differences, settings: Settings
    ) -> None:
        self._repositories = repositories
        self._differences = differences
        self._settings = settings
        self._state_dir = settings.state_dir
        self._threads = Threads("checkpoints", DISK_THREADS)
        self._journal = Journal(settings.state_dir)
        self._limits = Limits(
            file_bytes=settings.checkpoint_file_max_bytes,
            state_bytes=settings.checkpoints_max_bytes,
        )

    async def aclose(self) -> None:
        """End the threads."""
        await self._threads.run(self._journal.close)
        await self._threads.aclose()

    async def create(
        self, path: str, message: str, *, include_ignored: bool
    ) -> Checkpoint:
        """Keep the state of a directory.

        Raises:
            AgentError: It cannot be kept, or is too large.
            OSError: There is no such directory, or the system refuses.
        """
        if len(message) > MESSAGE_MAX_CHARS:
            raise InvalidRequestError(
                f"message has over {MESSAGE_MAX_CHARS} characters"
            )
        store = await self._store(path)
        async with store.changing():
            taking = self._taking(store)
            taken = await taking.take(include_ignored=include_ignored)
            record = await taking.keep(
                taken, message=message, include_ignored=include_ignored
            )
            await self._prune(store)
        return _told(record)

    async def list(self, path: str) -> CheckpointList:
        """Return the checkpoints of a directory; one that is gone has them still."""
        store = await self._store(path, must_exist=False)
        if not store.exists:
            return CheckpointList(checkpoints=[])
        records = await store.records()
        found = await self._threads.run(store.interrupted)
        left = (
            UNSET
            if found is None
            else InterruptedRestore(id=found.id, before=found.before)
        )
        return CheckpointList(
            checkpoints=[_told(each) for each in records], interrupted_restore=left
        )

    async def delete(self, path: str, checkpoint_id: str) -> None:
        """Forget a checkpoint, and give back the space of what only it had.

        Raises:
            NotFoundError: There is none with this id.
        """
        store = await self._store(path, must_exist=False)
        await store.record(checkpoint_id)
        async with store.changing():
            await store.record(checkpoint_id)
            await store.forget([checkpoint_id])
            if await store.records():
                await store.collect()
            else:
                await self._threads.run(store.remove)

    async def difference(
        self, path: str, checkpoint_id: str, to: str, form: Form
    ) -> Found:
        """Return what differs between a checkpoint and another, or the directory now.

        Raises:
            NotFoundError: There is no such checkpoint.
        """
        store = await self._store(path, must_exist=to == WORKING)
        record = await store.record(checkpoint_id)
        old = await store.state(record.id)
        if to == WORKING:
            async with store.changing():
                taken = await self._taking(store).take(
                    include_ignored=record.include_ignored
                )
            new = taken.state
        else:
            new = await store.state((await store.record(to)).id)
        return await self._differences.between_trees(
            store.repository(), (old.tree, new.tree), form
        )

    async def restore(
        self, path: str, checkpoint_id: str, paths: Sequence[str], *, dry_run: bool
    ) -> RestoreResult:
        """Lead a directory back to a checkpoint; its present state is kept before.

        Raises:
            ConflictError: Something that no checkpoint has is in the way.
            AgentError: As in `create`; nothing has changed.
            OSError: The system refuses; what had changed was taken back.
        """
        store = await self._store(path)
        chosen = [_inside(each) for each in paths]
        restorer = Restorer(store, self._threads, self._journal, chosen)
        await store.record(checkpoint_id)
        async with self._alone(store):
            record = await store.record(checkpoint_id)
            target = await store.state(record.id)
            taking = self._taking(store)
            taken = await taking.take(
                include_ignored=record.include_ignored,
                forced=await restorer.forced(target),
            )
            plan = await restorer.plan(
                taken.state, target, keeps_ignored=not record.include_ignored
            )
            await restorer.check(plan)
            if dry_run:
                return _result(plan)
            before = await taking.keep(
                taken,
                message=f"before the restore of {record.id}",
                include_ignored=record.include_ignored,
                restored=record.id,
            )
            interrupted = Interrupted(id=record.id, before=before.id)
            await self._carry_out(store, restorer, plan, interrupted)
            await self._prune(store)
        return _result(plan, before.id)

    async def _carry_out(
        self, store: Store, restorer: Restorer, plan: Plan, interrupted: Interrupted
    ) -> None:
        """Carry a plan out, or take back what was made of it.

        Raises:
            AgentError: Nothing has changed; or the state before could not be reached
                again, which the message then says.
            OSError: The system refuses; nothing has changed.
        """
        try:
            await restorer.carry_out(plan, interrupted)
        except UnsettledError as error:
            await self._take_back(store, restorer, interrupted, error.touched)
            await store.forget([interrupted.before])
            raise error.__cause__ or error from error
        except (AgentError, OSError):
            await self._threads.run(store.end_restore)
            await store.forget([interrupted.before])
            raise
        await self._threads.run(store.end_restore)

    async def _take_back(
        self,
        store: Store,
        restorer: Restorer,
        interrupted: Interrupted,
        touched: frozenset[bytes],
    ) -> None:
        """Lead the directory back to where it was before a restore that failed.

        Raises:
            ConflictError: That failed, too; the message says what to ask for.
        """
        target = await store.state(interrupted.id)
        before = await store.state(interrupted.before)
        plan = await restorer.plan(target, before, keeps_ignored=False, only=touched)
        try:
            await restorer.carry_out(plan, interrupted)
        except (AgentError, OSError) as error:
            raise ConflictError(
                "the restore failed half-way and could not be taken back; restore"
                f" {interrupted.before} to be where it began"
            ) from error
        await self._threads.run(store.end_restore)

    @contextlib.asynccontextmanager
    async def _alone(self, store: Store) -> AsyncIterator[None]:
        """Hold the locks of the store and of the repository that the directory is in."""
        async with contextlib.AsyncExitStack() as stack:
            top = await self._threads.run(enclosing, store.root)
            repository = await self._threads.run(repository_at, top)
            if repository is not None:
                name = repository.common_dir
                await stack.enter_async_context(self._repositories.locked(name))
            await stack.enter_async_context(store.changing())
            yield

    async def _prune(self, store: Store) -> None:
        """Forget the oldest checkpoints when there are too many, or too large ones."""
        records = await store.records()
        surplus = records[self._settings.checkpoints_max_count :]
        if surplus:
            await store.forget([each.id for each in surplus])
            del records[self._settings.checkpoints_max_count :]
        if await self._threads.run(store.packs) > PACKS_MAX:
            await store.collect()
        while (
            len(records) > 1
            and await self._threads.run(store.size_bytes)
            > self._settings.checkpoints_max_bytes
        ):
            # A quarter at a time, since looking for what is left takes a while.
            count = max(1, len(records) // 4)
            await store.forget([each.id for each in records[-count:]])
            del records[-count:]
            await store.collect()

    def _taking(self, store: Store) -> Taking:
        return Taking(
            self._repositories, self._threads, store, self._limits, self._state_dir
        )

    async def _store(self, path: str, *, must_exist: bool = True) -> Store:
        """Return the store of a directory, which need not be there yet.

        Raises:
            InvalidRequestError: Nothing can be kept of such a directory.
            OSError: There is no such directory.
        """
        root = await self._threads.run(self._resolve, path, must_exist)
        place = os.path.join(self._state_dir, "checkpoints")
        return Store(self._repositories, place, root)

    def _resolve(self, path: str, must_exist: bool) -> str:
        with told_as(path):
            root = os.path.realpath(self._repositories.paths.resolve(path))
            if must_exist:
                # Raises what fits when it is no directory, or not there.
                os.close(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        own = os.path.realpath(self._state_dir)
        if root in {"/", own} or root.startswith(own + "/"):
            raise InvalidRequestError(f"no checkpoints of this directory: {path}")
        if ".git" in root.split("/"):
            raise InvalidRequestError(f"git's own directory has no checkpoints: {path}")
        return root


def _inside(path: str) -> bytes:
    """Return a path of a restore's, relative to the directory.

    Raises:
        InvalidRequestError: It leads outside, or names nothing.
    """
    cleaned = os.path.normpath(path) if path else ""
    if not cleaned or cleaned.startswith(("/", "../")) or cleaned in {".", ".."}:
        raise InvalidRequestError(f"paths must name what is in the directory: '{path}'")
    if "\0" in cleaned:
        raise InvalidRequestError("paths must not contain NUL")
    return os.fsencode(cleaned)


def _told(record: Record) -> Checkpoint:
    moment = datetime.fromtimestamp(record.created_ns / 1e9, UTC)
    return Checkpoint(
        id=record.id,
        created_at=moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        message=record.message,
        include_ignored=record.include_ignored,
        files=record.files,
        bytes=record.size_bytes,
        files_changed=record.files_changed,
        skipped=list(record.skipped),
        skipped_count=record.skipped_count,
        restored=record.restored or UNSET,
    )


def _result(plan: Plan, before: str = "") -> RestoreResult:
    steps: list[tuple[Action, bytes]] = [
        *(("write", each.path) for each in plan.writes),
        *(("delete", path) for path in plan.deletes),
        *(("create directory", path) for path, _ in plan.make_directories),
        *(("remove directory", path) for path in plan.remove_directories),
        *(("mode", path) for path, _ in plan.modes),
    ]
    return RestoreResult(
        changes=[
            RestoredEntry(path=printable(os.fsdecode(path)), action=action)
            for action, path in steps[:CHANGES_TOLD_MAX]
        ],
        changes_count=len(steps),
        before=before or UNSET,
    )
