r"""The contract's name globs (contract 10 §12), turned into expressions.

`*` is any run, `?` one character, `[a-z]` a class that `^` negates, `\` escapes. `!` is
an ordinary character, there are no braces, and a malformed glob matches nothing.

`re` is imported only by the globs that need it: to import it takes as long as to walk
through ten thousand files.
"""

import os
from _collections_abc import Callable, Sequence

Test = Callable[[str], object]
"""Returns something true for the names that match."""
RawTest = Callable[[bytes], object]
"""As above, for names as they are on the disk."""

_PLAIN = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.*?-"
)


class _MalformedError(Exception):
    """The glob is none."""


def name_test(glob: str, *, ignore_case: bool = False) -> Test:
    """Return what tells whether a name matches `glob`; never if it is malformed."""
    import re  # noqa: PLC0415 - see above

    try:
        expression = _expression(glob)
    except _MalformedError:
        return lambda _name: None
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    return re.compile(expression, flags).fullmatch


def raw_test(glob: str, *, ignore_case: bool = False) -> RawTest:
    """Return what `name_test` does, for names as bytes; the common globs are quick."""
    text = _literal(glob)
    if ignore_case or text is None:
        test = name_test(glob, ignore_case=ignore_case)
        return lambda name: test(os.fsdecode(name))
    begins, ends = not glob.startswith("*"), not glob.endswith("*")
    if begins and ends:
        return lambda name: name == text
    if begins:
        return lambda name: name.startswith(text)
    if ends:
        return lambda name: name.endswith(text)
    return lambda name: text in name


def _literal(glob: str) -> bytes | None:
    """Return what is between the runs around `glob`; None when that is not literal."""
    inside = glob.strip("*")
    # Characters are whole, so that what matches as bytes matches as a text.
    if any(letter in inside for letter in "*?[\\/") or not _is_whole(inside):
        return None
    return inside.encode()


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def any_test(globs: Sequence[str]) -> RawTest | None:
    """Return what tells whether a name matches one of `globs`; None when there is none."""
    tests = [raw_test(each) for each in globs]
    if len(tests) <= 1:
        return tests[0] if tests else None
    return lambda name: any(test(name) for test in tests)


def is_plain(glob: str) -> bool:
    """Tell whether every glob dialect reads `glob` alike."""
    return bool(glob) and _PLAIN.issuperset(glob)


def widened(glob: str) -> str:
    """Return a plain glob that matches whatever `glob` does, and maybe more."""
    if is_plain(glob):
        return glob
    import re  # noqa: PLC0415 - see above

    head = re.match(r"[\w.-]*", glob, re.ASCII)
    # Behind the last metacharacter, and past any class or escape that it may end.
    tail = re.search(r"(?<=\*)[\w.-]*$", glob, re.ASCII)
    return f"{head[0] if head else ''}*{tail[0] if tail else ''}"


def _expression(glob: str) -> str:
    """Return `glob` as an expression that never backtracks into an earlier run."""
    import re  # noqa: PLC0415 - see above

    runs: list[str] = [""]
    at = 0
    while at < len(glob):
        letter = glob[at]
        at += 1
        if letter == "*":
            runs.append("")
        elif letter == "?":
            runs[-1] += "[^/]"
        elif letter == "[":
            piece, at = _class(glob, at)
            runs[-1] += piece
        else:
            letter, at = _letter(glob, at - 1)
            runs[-1] += re.escape(letter)
    first, *rest = runs
    if not rest:
        return first
    # The shortest run up to the next piece is as good as any, so it is kept: without
    # that, a glob of many runs takes for ever.
    middle = "".join(f"(?>[^/]*?{piece})" for piece in rest[:-1] if piece)
    return f"{first}{middle}[^/]*{rest[-1]}"


def _class(glob: str, at: int) -> tuple[str, int]:
    """Return the class that begins at `at`, behind its bracket, and where it ends."""
    import re  # noqa: PLC0415 - see above

    negated = glob[at : at + 1] == "^"
    at += negated
    ranges: list[str] = []
    while glob[at : at + 1] != "]" or not ranges:
        low, at = _class_letter(glob, at)
        high = low
        if glob[at : at + 1] == "-":
            high, at = _class_letter(glob, at + 1)
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            # A range that runs backwards holds nothing.
            ranges.append("")
    inside = "".join(ranges)
    if not inside:
        return ("(?s:.)" if negated else "(?!)"), at + 1
    return f"[{'^' if negated else ''}{inside}]", at + 1


def _class_letter(glob: str, at: int) -> tuple[str, int]:
    if glob[at : at + 1] in {"", "-", "]"}:
        raise _MalformedError
    return _letter(glob, at)


def _letter(glob: str, at: int) -> tuple[str, int]:
    """Return the character at `at`, escaped or not, and where the next one is."""
    if glob[at] == "\\":
        at += 1
        if at == len(glob):
            raise _MalformedError
    return glob[at], at + 1
