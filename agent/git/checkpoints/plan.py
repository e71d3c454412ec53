"""Works out what a restore has to do, and what stands in its way.

A plan leads from one kept state to another. What is in neither (ignored, skipped, the
`.git` directories) is never part of a plan; where it stands in the way, the restore is
refused before anything has changed.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Sequence

import msgspec

from agent.errors import ConflictError
from agent.git.checkpoints.ground import Ground
from agent.git.checkpoints.manifest import (
    USUAL_DIRECTORY,
    USUAL_FILE,
    USUAL_PROGRAM,
    Manifest,
    Standing,
)

LINK = 0o120000
PROGRAM = 0o100755

NAMED_MAX = 5
"""Obstacles that a refusal names."""


class Difference(msgspec.Struct, frozen=True):
    """One path at which two trees differ; mode 0: it is not there."""

    path: bytes
    old_mode: int
    new_mode: int
    new_blob: str


class Write(msgspec.Struct, frozen=True):
    """A file or link to be put in place."""

    path: bytes
    blob: str
    is_link: bool
    is_new: bool
    """Nothing of the old state stands there."""
    standing: Standing


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The steps of a restore, in the order in which they are made."""

    deletes: tuple[bytes, ...] = ()
    remove_directories: tuple[bytes, ...] = ()
    """Deepest first; one in which something is left stays."""
    make_directories: tuple[tuple[bytes, Standing], ...] = ()
    """Parents first; those that are there stay as they are."""
    writes: tuple[Write, ...] = ()
    modes: tuple[tuple[bytes, Standing], ...] = ()


class State(msgspec.Struct, frozen=True):
    """What a plan has to know of one state beside the differences."""

    directories: frozenset[bytes]
    manifest: Manifest

    def all_directories(self) -> set[bytes]:
        """Return the directories of the tree and the empty ones."""
        return {*self.directories, *self.manifest.empty_directories()}


def make_plan(
    old: State,
    new: State,
    differences: Sequence[Difference],
    wanted: Callable[[bytes], bool],
) -> Plan:
    """Return what leads from `old` to `new`, of those paths that are `wanted`."""
    chosen = [each for each in differences if wanted(each.path)]
    writes = [_write(each, new.manifest) for each in chosen if each.new_mode]
    written = {each.path for each in writes}
    touched = {each.path for each in differences}
    before, after = old.all_directories(), new.all_directories()
    made = {each for each in after - before if wanted(each)}
    made |= {above for path in (*written, *made) for above in parents(path)} - before
    removed = {each for each in before - after if wanted(each)}
    return Plan(
        deletes=tuple(each.path for each in chosen if not each.new_mode),
        remove_directories=tuple(sorted(removed, reverse=True)),
        make_directories=tuple(
            (path, new.manifest.standing(path, USUAL_DIRECTORY))
            for path in sorted(made)
        ),
        writes=tuple(writes),
        modes=tuple(_modes(old, new, touched | made, wanted)),
    )


def _write(difference: Difference, manifest: Manifest) -> Write:
    usual = USUAL_PROGRAM if difference.new_mode == PROGRAM else USUAL_FILE
    return Write(
        difference.path,
        difference.new_blob,
        difference.new_mode == LINK,
        not difference.old_mode,
        manifest.standing(difference.path, usual),
    )


def _modes(
    old: State, new: State, touched: set[bytes], wanted: Callable[[bytes], bool]
) -> Iterable[tuple[bytes, Standing]]:
    """Yield the entries of which only mode or owner differ.

    A manifest names what is unusual, so entries that neither names are equal; and what
    is named and not touched is in both states, with the same execute bit.
    """
    before, after = old.all_directories(), new.all_directories()
    for name in sorted({*old.manifest.entries, *new.manifest.entries}):
        path = name.encode("latin-1")
        if path in touched or path in before ^ after or not wanted(path):
            continue
        known = new.manifest.entries.get(name) or old.manifest.entries[name]
        usual = USUAL_PROGRAM if known.mode & stat.S_IXUSR else USUAL_FILE
        if path in after:
            usual = USUAL_DIRECTORY
        now = new.manifest.standing(path, usual)
        if old.manifest.standing(path, usual) != now:
            yield path, now


def check_ways(ground: Ground, plan: Plan) -> None:
    """See that nothing which no checkpoint has stands where the plan has to write.

    Raises:
        ConflictError: Something does; the first few are named.
        PermissionError: A directory that has to change cannot be written to.
    """
    going = {*plan.deletes}
    leaving = {*plan.remove_directories}
    kept: list[bytes] = []
    places = [each.path for each in plan.writes]
    places += [path for path, _ in plan.make_directories]
    ours = {path for path, _ in plan.make_directories}
    fresh = {each.path for each in plan.writes if each.is_new}
    for path in places:
        above = ground.obstacle(path)
        if above is not None:
            kept += [] if above in going else [above]
            continue
        found = ground.status(path)
        if found is None or path in going:
            continue
        if stat.S_ISDIR(found.st_mode):
            if path not in ours:
                kept += left_in(ground, path, going, leaving)
        elif path in ours or path in fresh or not _replaceable(found.st_mode):
            kept.append(path)
    if kept:
        names = ", ".join(os.fsdecode(each) for each in sorted({*kept})[:NAMED_MAX])
        raise ConflictError(f"in the way, and in no checkpoint: {names}")
    _check_rights(ground, plan)


def _replaceable(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def left_in(
    ground: Ground, top: bytes, going: set[bytes], leaving: set[bytes]
) -> list[bytes]:
    """Return what is in the directory `top` that the plan does not remove."""
    left: list[bytes] = []
    front = [top]
    while front and len(left) < NAMED_MAX:
        directory = front.pop()
        inside = [
            directory + b"/" + name for name in os.listdir(ground.full(directory))
        ]
        if directory not in leaving and not inside:
            left.append(directory)
        for path in inside:
            found = ground.status(path)
            if found is None or path in going:
                continue
            if stat.S_ISDIR(found.st_mode):
                front.append(path)
            else:
                left.append(path)
    return left


def _check_rights(ground: Ground, plan: Plan) -> None:
    changing = {path.rpartition(b"/")[0] for path in plan.deletes}
    changing |= {ground.nearest(each.path) for each in plan.writes}
    for path in changing:
        place = ground.full(path)
        if os.path.isdir(place) and not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), place)


def parents(path: bytes) -> list[bytes]:
    """Return the directories above an entry, the nearest last."""
    names = path.split(b"/")
    return [b"/".join(names[:count]) for count in range(1, len(names))]
