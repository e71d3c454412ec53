"""Leads a directory back to a kept state, and, where that fails, to where it was."""

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import msgspec

from agent.errors import AgentError
from agent.files.journal import Journal
from agent.files.threads import Threads
from agent.git.checkpoints.applying import Restoring
from agent.git.checkpoints.ground import Ground
from agent.git.checkpoints.plan import (
    Difference,
    Plan,
    State as PlannedState,
    check_ways,
    make_plan,
)
from agent.git.checkpoints.store import CHECK_IGNORE, Interrupted, State, Store

RULES = b".gitignore"


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore did, or would do."""

    plan: Plan
    before: str = ""


class Restorer:
    """Makes and carries out the plans of one directory; inside `Store.changing` only.

    Args:
        store: Has the states.
        threads: In which the disk is worked on.
        journal: Remembers temporary files.
        paths: What is restored, files or directories; none: everything.
    """

    def __init__(
        self, store: Store, threads: Threads, journal: Journal, paths: Sequence[bytes]
    ) -> None:
        self._store = store
        self._threads = threads
        self._journal = journal
        self._paths = paths

    def wants(self, path: bytes) -> bool:
        """Tell whether a path is among those to be restored."""
        return not self._paths or any(
            path == each or path.startswith(each + b"/") for each in self._paths
        )

    async def forced(self, target: State) -> Callable[[set[bytes]], Iterable[bytes]]:
        """Return what finds the entries that the restore would write over.

        They must be in the state that is taken before, ignored or not, or they would be
        lost.
        """
        files = [each for each in await self._store.paths(target) if self.wants(each)]
        above = await self._store.paths(target, "-d")

        def find(names: set[bytes]) -> Iterable[bytes]:
            ground = Ground(os.fsencode(self._store.root))
            try:
                for path in sorted((*files, *above)):
                    found = None if path in names else ground.status(path)
                    if found is not None and _can_be_kept(found.st_mode):
                        yield path
            finally:
                ground.close()

        return find

    async def plan(
        self,
        old: State,
        new: State,
        *,
        keeps_ignored: bool,
        only: frozenset[bytes] | None = None,
    ) -> Plan:
        """Return what leads from one state to the other.

        With `keeps_ignored` nothing goes that the new state's own rules ignore: it may
        be there since before, unseen. With `only` nothing but these entries change.
        """
        differences = await self._store.differences(old, new)
        kept = set(new.manifest.left_out())
        if keeps_ignored:
            kept |= await self._ignored_by(new, differences)

        def wanted(path: bytes) -> bool:
            if only is not None and path not in only:
                return False
            return path not in kept and self.wants(path)

        planned = [
            PlannedState(frozenset(await self._store.paths(each, "-d")), each.manifest)
            for each in (old, new)
        ]
        return await self._threads.run(make_plan, *planned, differences, wanted)

    async def _ignored_by(
        self, state: State, differences: Sequence[Difference]
    ) -> set[bytes]:
        """Return what goes by the differences, but is ignored by the state's rules."""
        names = [each.path.rpartition(b"/")[2] for each in differences]
        going = [each.path for each in differences if not each.new_mode]
        if RULES not in names or not going:
            return set()
        rules = [
            path
            for path in await self._store.paths(state)
            if path.rpartition(b"/")[2] == RULES
        ]
        scratch = await self._threads.run(
            tempfile.mkdtemp, "", "rules", self._store.git_dir
        )
        try:
            for path in rules:
                output = await self._store.read(
                    "cat-file", "blob", f"{state.tree}:{os.fsdecode(path)}"
                )
                place = os.path.join(os.fsencode(scratch), path)
                await self._threads.run(_write, place, output.stdout)
            output = await self._store.read(
                *CHECK_IGNORE,
                *("-z", "--stdin"),
                work_tree=scratch,
                stdin=b"".join(b"./" + path + b"\0" for path in going),
                ok=(0, 1),
            )
        finally:
            await self._threads.run(shutil.rmtree, scratch, True)
        return {each[2:] for each in output.stdout.split(b"\0") if each}

    async def check(self, plan: Plan) -> None:
        """See that nothing stands in the way.

        Raises:
            ConflictError: Something does.
            OSError: The system refuses.
        """
        ground = await self._threads.run(Ground, os.fsencode(self._store.root))
        try:
            await self._threads.run(check_ways, ground, plan)
        finally:
            await self._threads.run(ground.close)

    async def carry_out(self, plan: Plan, interrupted: Interrupted) -> None:
        """Make the disk what the plan says.

        Raises:
            UnsettledError: It failed after something had changed.
            AgentError: It failed before.
            OSError: As these two: the system refuses.
        """
        ground = await self._threads.run(Ground, os.fsencode(self._store.root))
        restoring = Restoring(ground, plan, self._journal)
        try:
            await self._threads.run(restoring.begin)
            if plan.writes:
                words = ("cat-file", "--batch", "--buffer")
                async for block in self._store.stream(*words, stdin=restoring.wanted):
                    await self._threads.run(restoring.feed, block)
            await self._threads.run(self._store.begin_restore, interrupted)
            await self._threads.run(_settle, restoring)
        finally:
            await self._threads.run(restoring.discard)
            await self._threads.run(ground.close)


class UnsettledError(AgentError):
    """A restore failed after something had changed; the cause says why.

    Args:
        touched: The entries that have changed.
    """

    def __init__(self, touched: frozenset[bytes]) -> None:
        super().__init__("the restore failed half-way")
        self.touched = touched


def _settle(restoring: Restoring) -> None:
    try:
        restoring.settle()
    except OSError as error:
        raise UnsettledError(frozenset(restoring.touched)) from error


def _can_be_kept(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _write(place: bytes, content: bytes) -> None:
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with suppress(IsADirectoryError), open(place, "wb") as file:
        file.write(content)
