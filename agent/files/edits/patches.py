"""Applies unified diffs to bytes.

A hunk goes where its header says, moved by what came before it, or else to the nearest
place where all its old lines stand exactly. Nothing is guessed beyond that.
"""

import re

import msgspec

from agent.errors import ConflictError, InvalidRequestError

REACH_LINES = 10_000
"""How far from where its header says a hunk is looked for."""
COMPARED_MAX_LINES = 10_000_000
"""Lines that looking for one hunk compares: under a second."""

_HEADER = rb"@@ -(\d{1,9})(?:,(\d{1,9}))? \+\d{1,9}(?:,(\d{1,9}))? @@.*"


class Hunk(msgspec.Struct):
    """Lines to be found, and those that take their place; line ends included."""

    first: int
    old: list[bytes]
    new: list[bytes]


def lines_of(content: bytes) -> list[bytes]:
    """Return the lines of `content`, each with its line feed."""
    *whole, rest = content.split(b"\n")
    lines = [line + b"\n" for line in whole]
    return [*lines, rest] if rest else lines


def apply_diff(content: bytes | None, diff: bytes) -> bytes | None:
    """Return what `diff` makes of `content`; None is a file that is not there.

    Raises:
        InvalidRequestError: It is no unified diff of one file.
        ConflictError: The old lines are not there.
    """
    hunks, deletes = parse_diff(diff)
    if content is None and any(hunk.old for hunk in hunks):
        raise ConflictError("the file is not there")
    lines = lines_of(content or b"")
    made: list[bytes] = []
    done = moved = 0
    for number, hunk in enumerate(hunks, 1):
        wanted = hunk.first + moved if hunk.old else hunk.first + moved + 1
        place = _place(lines, hunk.old, max(wanted - 1, 0), done)
        if place is None:
            raise ConflictError(
                f"hunk {number} of the diff does not apply: its old lines are not there"
            )
        moved += place - max(wanted - 1, 0)
        made += [*lines[done:place], *hunk.new]
        done = place + len(hunk.old)
    result = b"".join([*made, *lines[done:]])
    return None if deletes and not result else result


def _place(lines: list[bytes], old: list[bytes], wanted: int, first: int) -> int | None:
    """Return where `old` stands in `lines`, the nearest to `wanted`, not before `first`."""
    last = len(lines) - len(old)
    if not old:
        return wanted if first <= wanted <= last else None
    reach = min(REACH_LINES, COMPARED_MAX_LINES // len(old))
    for away in range(min(max(wanted - first, last - wanted, 0), reach) + 1):
        for place in (wanted - away, wanted + away):
            if first <= place <= last and lines[place : place + len(old)] == old:
                return place
    return None


def parse_diff(diff: bytes) -> tuple[list[Hunk], bool]:
    """Return the hunks of a diff, and whether it says that the file goes away.

    Raises:
        InvalidRequestError: It is no unified diff of one file.
    """
    lines = diff.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    hunks: list[Hunk] = []
    deletes = False
    at = 0
    while at < len(lines):
        match = re.fullmatch(_HEADER, lines[at].rstrip(b"\r"))
        if match:
            hunk, at = _hunk(lines, at + 1, match)
            hunks.append(hunk)
        elif hunks and lines[at].strip():
            raise InvalidRequestError(
                f"line {at + 1} of the diff is outside its hunks; one diff edits one file"
            )
        else:
            deletes = deletes or lines[at].startswith(b"+++ /dev/null")
            at += 1
    if not hunks:
        raise InvalidRequestError("the diff has no hunk (@@ -1,2 +1,2 @@)")
    return hunks, deletes


def _hunk(lines: list[bytes], at: int, header: "re.Match[bytes]") -> tuple[Hunk, int]:
    """Read one hunk from line `at` on; return it and the line after it."""
    olds = 1 if header[2] is None else int(header[2])
    news = 1 if header[3] is None else int(header[3])
    hunk = Hunk(int(header[1]), [], [])
    sides: list[list[bytes]] = []
    while at < len(lines):
        mark, text = lines[at][:1], lines[at][1:]
        if mark == b"\\":
            # "\ No newline at end of file" is said of the line before.
            for side in sides:
                side[-1] = side[-1].removesuffix(b"\n")
        elif len(hunk.old) == olds and len(hunk.new) == news:
            break
        else:
            sides = _sides(hunk, mark, at)
            for side in sides:
                side.append(text + b"\n")
        at += 1
    if (len(hunk.old), len(hunk.new)) != (olds, news):
        raise InvalidRequestError(
            f"a hunk of the diff has {len(hunk.old)} old and {len(hunk.new)} new lines,"
            f" but its header says {olds} and {news}"
        )
    return hunk, at


def _sides(hunk: Hunk, mark: bytes, at: int) -> list[list[bytes]]:
    if mark in {b" ", b""}:
        return [hunk.old, hunk.new]
    if mark == b"-":
        return [hunk.old]
    if mark == b"+":
        return [hunk.new]
    raise InvalidRequestError(
        f"line {at + 1} of the diff begins with none of space, + and -"
    )
