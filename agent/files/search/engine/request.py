"""What the program is asked, as it stands in its argument."""

import marshal
from _collections_abc import Sequence


class Request:
    """One search.

    A plain class, carried by `marshal`: `typing` and `json` would cost the program more
    time than a small search takes.

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

    def __init__(  # noqa: PLR0913 - the fields of a request
        self,
        *,
        kind: str,
        root: str,
        shown: str,
        shown_root: str,
        root_name: str,
        pattern: str,
        regex: bool = False,
        ignore_case: bool = False,
        context: int = 0,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        gitignore: bool = False,
        max_results: int = 0,
        after: tuple[str, int] | None = None,
        ripgrep: str | None = None,
        limit_s: float = 60.0,
        max_bytes: int = 2**28,
    ) -> None:
        self.kind = kind
        self.root = root
        self.shown = shown
        self.shown_root = shown_root
        self.root_name = root_name
        self.pattern = pattern
        self.regex = regex
        self.ignore_case = ignore_case
        self.context = context
        self.include = include
        self.exclude = exclude
        self.gitignore = gitignore
        self.max_results = max_results
        self.after = after
        self.ripgrep = ripgrep
        self.limit_s = limit_s
        self.max_bytes = max_bytes

    def to_argument(self) -> str:
        """Return the request as an argument of the program."""
        return marshal.dumps(vars(self)).hex()

    @classmethod
    def from_argument(cls, text: str) -> "Request":
        """Return the request in an argument, which is of our own making."""
        return cls(**marshal.loads(bytes.fromhex(text)))  # noqa: S302 - see above

    def going_on(self, path: bytes, line: int) -> "Request":
        """Return the same request for what comes behind a result."""
        fields = {
            **vars(self),
            "after": (path.decode("utf-8", "surrogateescape"), line),
        }
        return Request(**fields)


def raw(text: str) -> bytes:
    """Return the bytes that `text` stands for, those that are no UTF-8 included."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def order(path: bytes) -> bytes:
    """Return what sorts paths as a walk meets them: a directory, then what is in it."""
    return path.replace(b"/", b"\0")
