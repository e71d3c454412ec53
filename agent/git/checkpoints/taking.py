"""Takes a state: looks at the disk, lets git read what has changed, keeps the tree."""

import os
import time
from collections.abc import Callable, Iterable

import msgspec

from agent.errors import AgentError, ConflictError, StorageFullError, UnavailableError
from agent.files.threads import Threads
from agent.git.checkpoints.models import SkippedEntry
from agent.git.checkpoints.names import Names
from agent.git.checkpoints.store import EMPTY_TREE, PACKED, Record, State, Store
from agent.git.checkpoints.survey import Limits, Survey, Surveyor
from agent.git.registry import Repositories
from agent.wire import printable

ATTEMPTS = 3
"""At reading a directory in which files change, shrink and vanish meanwhile."""
SKIPPED_TOLD_MAX = 20
"""Skipped entries that a record names."""

Forced = Callable[[set[bytes]], Iterable[bytes]]
"""Given the names of a state, which more must be in it or the taking fails."""


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A state as it is on the disk just now."""

    state: State
    survey: Survey


class Taking:
    """Takes states of one directory; inside `Store.changing` only.

    Args:
        repositories: Runs git.
        threads: In which the disk is looked at.
        store: Where the content goes.
        limits: What is kept.
        private: The agent's own directory, which is never part of a state.
    """

    def __init__(
        self,
        repositories: Repositories,
        threads: Threads,
        store: Store,
        limits: Limits,
        private: str,
    ) -> None:
        self._threads = threads
        self._store = store
        self._limits = limits
        self._private = os.fsencode(private)
        self._names = Names(repositories, threads, store)

    async def take(
        self, *, include_ignored: bool, forced: Forced = lambda _: ()
    ) -> Taken:
        """Return the state of the directory, its content in the store.

        Raises:
            AgentError: It cannot be read, is too large, or changes all the time.
            OSError: The system refuses.
        """
        await self._threads.run(self._store.make)
        for attempt in range(ATTEMPTS):
            survey = await self._survey(include_ignored, forced)
            try:
                return await self._read(survey)
            except (StorageFullError, UnavailableError):
                await self._threads.run(self._store.sweep)
                raise
            except AgentError:
                # A file that is cut short while git has it mapped kills git, too.
                if attempt + 1 == ATTEMPTS:
                    raise
                await self._threads.run(self._store.sweep)
                await self._threads.run(self._store.drop_index)
        raise ConflictError("the directory changes all the time")

    async def _survey(self, include_ignored: bool, forced: Forced) -> Survey:
        names = await self._names.of_state(include_ignored=include_ignored)

        def survey() -> Survey:
            surveyor = Surveyor(
                os.fsencode(self._store.root), self._limits, self._private
            )
            return surveyor.survey(names, forced(names))

        return await self._threads.run(survey)

    async def _read(self, survey: Survey) -> Taken:
        """Have git read what has changed since it looked last."""
        store = self._store
        known = await store.indexed()
        gone = b"".join(name + b"\0" for name in known - {*survey.paths})
        words = ("update-index", "-z")
        if gone:
            await store.write(*words, "--force-remove", "--stdin", stdin=gone)
        there = b"".join(name + b"\0" for name in survey.paths)
        if there:
            more = ("--add", "--remove", "--replace", "--stdin")
            await store.write(*words, *more, stdin=there, settings=PACKED)
        tree = await store.write("write-tree")
        state = State(tree=tree.text, manifest=survey.manifest)
        return Taken(state=state, survey=survey)

    async def keep(
        self,
        taken: Taken,
        *,
        message: str,
        include_ignored: bool,
        restored: str = "",
    ) -> Record:
        """Keep a taken state as a new checkpoint."""
        records = await self._store.records()
        before, newest_ns = EMPTY_TREE, 0
        if records:
            before = (await self._store.state(records[0].id)).tree
            newest_ns = records[0].created_ns
        survey = taken.survey
        record = Record(
            id=os.urandom(8).hex(),
            # One that a clock set back puts before its elders would be dropped first.
            created_ns=max(time.time_ns(), newest_ns + 1),
            message=message,
            include_ignored=include_ignored,
            files=len(survey.paths),
            size_bytes=survey.size_bytes,
            files_changed=await self._store.count_changed(before, taken.state.tree),
            skipped=tuple(
                SkippedEntry(path=printable(os.fsdecode(path)), reason=reason)
                for path, reason in survey.skipped[:SKIPPED_TOLD_MAX]
            ),
            skipped_count=len(survey.skipped),
            restored=restored,
        )
        await self._store.add(record, taken.state)
        return record
