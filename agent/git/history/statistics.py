"""Reads what git tells of a difference, file by file (`--raw --numstat -z`)."""

from collections.abc import Iterator

import msgspec

from agent.git.history.models import FileChange, FileDifference
from agent.wire import UNSET, printable

CHANGES: dict[str, FileChange] = {
    "A": "Added",
    "C": "Copied",
    "D": "Deleted",
    "M": "Modified",
    "R": "Renamed",
    "T": "Type changed",
    "U": "Updated but unmerged",
}
TWO_NAMES = ("R", "C")


class _Counts(msgspec.Struct, frozen=True):
    additions: int
    deletions: int
    binary: bool


NONE = _Counts(0, 0, binary=False)


def read_statistics(answer: bytes) -> list[FileDifference]:
    """Return the files of a difference, in git's order.

    A file that is not merged has an entry for its conflict and often another one for
    its content; they are told as one.
    """
    fields = iter(answer.split(b"\0"))
    raw: dict[bytes, FileDifference] = {}
    counts: dict[bytes, _Counts] = {}
    for field in fields:
        if field.startswith(b":"):
            path, told = _read_raw(field, fields)
            if path not in raw or told.change == CHANGES["U"]:
                raw[path] = told
        elif field:
            path, counted = _read_counts(field, fields)
            counts[path] = counted
    return [
        msgspec.structs.replace(told, **msgspec.structs.asdict(counts.get(path, NONE)))
        for path, told in raw.items()
    ]


def _read_raw(field: bytes, fields: Iterator[bytes]) -> tuple[bytes, FileDifference]:
    old_mode, new_mode, _, _, status = field.decode("ascii")[1:].split(" ")
    path = next(fields)
    previous = None
    if status[0] in TWO_NAMES:
        previous, path = path, next(fields)
    told = FileDifference(
        path=_text(path),
        previous_path=UNSET if previous is None else _text(previous),
        change=CHANGES.get(status[0], "Modified"),
        old_mode=old_mode,
        new_mode=new_mode,
        binary=False,
        additions=0,
        deletions=0,
    )
    return path, told


def _read_counts(field: bytes, fields: Iterator[bytes]) -> tuple[bytes, _Counts]:
    additions, deletions, path = field.split(b"\t", 2)
    if not path:
        # Two names follow, the old one first.
        next(fields)
        path = next(fields)
    if additions == b"-":
        return path, _Counts(0, 0, binary=True)
    return path, _Counts(int(additions), int(deletions), binary=False)


def _text(path: bytes) -> str:
    return printable(path.decode("utf-8", "surrogateescape"))
