"""What the program is asked, as it stands in its argument."""

import json
from collections.abc import Sequence
from typing import NamedTuple


class Request(NamedTuple):
    """One search.

    Attributes:
        kind: `text` for lines of files, `names` for entries.
        root: The absolute path of what is searched; a link there is followed.
        shown: What the paths of entries below the root begin with, slash included.
        shown_root: The path of the root itself.
        root_name: The name of the root, for `names`.
        pattern: Text, name glob, or expression.
        regex: Whether `pattern` is an expression.
        ignore_case: Whether letters match in both cases.
        context: Lines told before and after each match.
        include: Globs of which a file's name has to match one; none: all files.
        exclude: Globs of names that are left out, directories with all in them.
        gitignore: Whether the `.gitignore` files below the root are heeded.
        max_results: Results of one answer; 0 is no limit.
        after: Path below the root and line of the last result that the caller has.
        ripgrep: The program to search text with, or None.
        limit_s: Wall clock.
        max_bytes: JSON of the answer.
    """

    kind: str
    root: str
    shown: str
    shown_root: str
    root_name: str
    pattern: str
    regex: bool = False
    ignore_case: bool = False
    context: int = 0
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    gitignore: bool = False
    max_results: int = 0
    after: tuple[str, int] | None = None
    ripgrep: str | None = None
    limit_s: float = 60.0
    max_bytes: int = 2**28

    def to_json(self) -> str:
        """Return the request as an argument."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> "Request":
        """Return the request in an argument."""
        return cls(**json.loads(text))


def raw(text: str) -> bytes:
    """Return the bytes that `text` stands for, those that are no UTF-8 included."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def order(path: bytes) -> bytes:
    """Return what sorts paths as a walk meets them: a directory, then what is in it."""
    return path.replace(b"/", b"\0")
