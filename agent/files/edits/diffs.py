"""Makes unified diffs of two contents, in bounded time.

What is the same at both ends is set aside first; what is left between is compared line
by line only when it is short enough, else it is shown as taken out and put in whole:
still a true diff, if not the shortest.
"""

from collections.abc import Iterator

import msgspec

from agent.files.edits.patches import lines_of

CONTEXT_LINES = 3
COMPARED_LINES = 2000
"""Lines of both sides that are compared; the time goes with the square."""
DIFF_MAX_BYTES = 1024 * 1024
"""What one file's diff is cut to."""
BINARY_LOOK_BYTES = 8000
"""Where a NUL byte makes a content binary, as git has it."""

Run = tuple[bool, int, int, int, int]
"""Whether both sides are the same, then the lines of the one and of the other."""


class Diff(msgspec.Struct, frozen=True):
    """A diff as text, and whether it was cut."""

    text: str
    cut: bool = False


def diff_of(path: str, before: bytes | None, after: bytes | None) -> Diff:
    """Return what changed at `path`; None is a file that is not there."""
    heads = [
        f"--- {'/dev/null' if before is None else 'a/' + path.lstrip('/')}\n",
        f"+++ {'/dev/null' if after is None else 'b/' + path.lstrip('/')}\n",
    ]
    old, new = before or b"", after or b""
    if old == new:
        return Diff("" if (before is None) == (after is None) else "".join(heads))
    if b"\0" in old[:BINARY_LOOK_BYTES] or b"\0" in new[:BINARY_LOOK_BYTES]:
        return Diff("".join(heads) + "Binary files differ\n")
    pieces = [head.encode("utf-8", "replace") for head in heads]
    size_bytes = sum(map(len, pieces))
    for piece in _hunks(lines_of(old), lines_of(new)):
        size_bytes += len(piece)
        if size_bytes > DIFF_MAX_BYTES:
            return Diff(b"".join(pieces).decode("utf-8", "replace"), cut=True)
        pieces.append(piece)
    return Diff(b"".join(pieces).decode("utf-8", "replace"))


def _hunks(old: list[bytes], new: list[bytes]) -> Iterator[bytes]:
    """Yield every hunk, its header and its lines, line by line."""
    for group in _groups(_runs(old, new)):
        (_, old_first, _, new_first, _), (_, _, old_end, _, new_end) = (
            group[0],
            group[-1],
        )
        where = f"{_span(old_first, old_end)} +{_span(new_first, new_end)}"
        yield f"@@ -{where} @@\n".encode()
        for same, i, j, k, end in group:
            for line in old[i:j]:
                yield _line(b" " if same else b"-", line)
            for line in () if same else new[k:end]:
                yield _line(b"+", line)


def _span(first: int, end: int) -> str:
    count = end - first
    # Of no lines, the one before them is named.
    return f"{first + 1 if count else first},{count}"


def _line(mark: bytes, line: bytes) -> bytes:
    if line.endswith(b"\n"):
        return mark + line
    return mark + line + b"\n\\ No newline at end of file\n"


def _runs(old: list[bytes], new: list[bytes]) -> list[Run]:
    """Return the runs of lines that are the same, and those that are not, in turn."""
    head = _common(old, new, min(len(old), len(new)))
    tail = _common(old[::-1], new[::-1], min(len(old), len(new)) - head)
    middle_old = old[head : len(old) - tail]
    middle_new = new[head : len(new) - tail]
    runs: list[Run] = [(True, 0, head, 0, head)] if head else []
    runs += [
        (same, i + head, j + head, k + head, end + head)
        for same, i, j, k, end in _compared(middle_old, middle_new)
    ]
    if tail:
        runs.append((True, len(old) - tail, len(old), len(new) - tail, len(new)))
    return runs


def _common(old: list[bytes], new: list[bytes], most: int) -> int:
    count = 0
    while count < most and old[count] == new[count]:
        count += 1
    return count


def _compared(old: list[bytes], new: list[bytes]) -> list[Run]:
    if not (old and new) or len(old) + len(new) > COMPARED_LINES:
        return [(False, 0, len(old), 0, len(new))]
    # By the first edit, not by the agent's start.
    from difflib import SequenceMatcher  # noqa: PLC0415

    codes = SequenceMatcher(None, old, new).get_opcodes()
    return [(tag == "equal", i, j, k, end) for tag, i, j, k, end in codes]


def _groups(runs: list[Run]) -> Iterator[list[Run]]:
    """Yield the runs of each hunk, with a few lines of context around the changes."""
    group: list[Run] = []
    for run in runs:
        same, i, j, k, end = run
        if not same or (group and j - i <= 2 * CONTEXT_LINES and run is not runs[-1]):
            group.append(run)
            continue
        if group:
            after = min(CONTEXT_LINES, j - i)
            yield [*group, (True, i, i + after, k, k + after)]
        before = min(CONTEXT_LINES, j - i)
        group = [(True, j - before, j, end - before, end)]
    if any(not run[0] for run in group):
        yield group
