"""Searches text with ripgrep, and gives its findings the contract's order and form.

Sorting would cost ripgrep its threads, so it searches in any order and the findings are
sorted here. When there are too many for that, it searches again, in order, and they are
passed on as they come.

Ripgrep has another idea of binary files than the contract: a NUL byte anywhere. For a
text it is made to tell which of the files with findings have one, and those are read
again here. An expression may match the NUL byte itself, so for one, and in order, every
file is text to ripgrep, and each one with findings is looked at here.
"""

import os
from _collections_abc import Iterable, Iterator, Sequence

from agent.files.search.engine.answer import Answer, LateError
from agent.files.search.engine.findings import Findings, hits, quick_json
from agent.files.search.engine.globs import any_test, is_plain, widened
from agent.files.search.engine.matching import Matcher, is_binary
from agent.files.search.engine.process import Piped, Stored, TooMuchError, Words
from agent.files.search.engine.reading import Reader
from agent.files.search.engine.records import Recorder
from agent.files.search.engine.request import Request, order, raw

_Found = tuple[bytes, int, bytes, bytes]
"""What sorts a file, a number that nothing else has, its absolute path, its lines."""
TOGETHER_BYTES = 256 * 1024
"""Findings turned into JSON at a time."""

_FLAGS = (
    "--no-config",
    "--no-messages",
    "--color=never",
    "--no-heading",
    "--with-filename",
    "--null",
    "--line-number",
    r"--field-match-separator=\x00\x00",
    "--encoding=none",
    "--no-mmap",
    "--hidden",
    "--no-follow",
)
_GITIGNORE = (
    "--no-ignore-dot",
    "--no-ignore-global",
    "--no-ignore-exclude",
    "--no-ignore-parent",
    "--no-require-git",
    "--glob=!.git",
)


class Ripgrep:
    """One search.

    Args:
        request: What is searched for.
        answer: Where findings go.
    """

    def __init__(self, request: Request, answer: Answer) -> None:
        self._request = request
        self._answer = answer
        self._root = raw(request.root)
        self._is_file = os.path.isfile(self._root)
        self._skip = len(self._root) + 1
        self._included = any_test(request.include)
        self._excluded = any_test(request.exclude)
        self._recorder = Recorder(request)
        self._reader: Reader | None = None
        # Not of an expression, which is not Python's to read.
        texts = not request.regex and request.pattern.endswith("\r")
        self._matcher = Matcher(request) if texts else None
        # Whether each file is, because ripgrep says nothing of binary ones.
        self._is_looked_at = request.regex
        self._after = order(raw(request.after[0])) if request.after else b""

    def find(self) -> None:
        """Find the lines that match, and add them to the answer.

        Raises:
            InvalidError: The expression is none.
            UnusableError: Somebody else has to go on behind the answer's position.
            LateError: The time is up.
            FullError: The answer is.
        """
        alone = self._is_file or len(os.sched_getaffinity(0)) == 1
        if alone or not self._gather():
            self._is_looked_at = True
            with Piped(self._words("--sort=path", "--text")) as run:
                for path, lines in self._in_order(run):
                    self._add_file(path, lines)
                run.finish()

    def _gather(self) -> bool:
        """Search in any order, sort, and add all; False when there is too much."""
        found: list[_Found] = []
        output = Findings(self._root + b"/")
        try:
            with Stored(
                self._words("--text" if self._is_looked_at else "--binary")
            ) as run:
                for text in run.pieces():
                    for path, lines in output.files(text):
                        if self._is_wanted(path):
                            below = path[self._skip :]
                            found.append((order(below), len(found), below, lines))
                run.finish()
            output.finish()
        except TooMuchError:
            return False
        except LateError:
            self._answer.in_order = False
            self._add_sorted(found, output)
            raise
        self._add_sorted(found, output)
        return True

    def _add_sorted(self, found: list[_Found], output: Findings) -> None:
        if output.binary:
            again = {
                path[self._skip :] for path in filter(self._is_wanted, output.binary)
            }
            found = [each for each in found if each[2] not in again]
            found += [(order(below), 0, below, b"") for below in again]
        found.sort()
        request = self._request
        if request.context or request.after or self._matcher:
            self._add_each(found)
            return
        together: list[_Found] = []
        size = 0
        for each in found:
            if not each[3]:
                self._add_together(together)
                together, size = [], 0
                self._add_file(*each[2:])
                continue
            together.append(each)
            size += len(each[3])
            if size >= TOGETHER_BYTES:
                self._add_together(together)
                together, size = [], 0
        self._add_together(together)

    def _add_together(self, found: Sequence[_Found]) -> None:
        """Add findings all at once, if they are that simple and fit."""
        if not found:
            return
        made = quick_json(
            b"".join([lines for _, _, _, lines in found]),
            (self._root + b"/").decode("utf-8", "replace"),
            raw(self._request.shown).decode("utf-8", "replace"),
        )
        if made and self._answer.fits(made[1], len(made[0])):
            _, _, below, lines = found[-1]
            last = lines[lines.rfind(b"\n", 0, -1) + 1 :]
            self._answer.add_all(*made, (below, int(last.split(b"\0")[1])))
        else:
            self._add_each(found)

    def _add_each(self, found: Iterable[_Found]) -> None:
        for _, _, below, lines in found:
            self._add_file(below, lines)

    def _add_file(self, below: bytes, lines: bytes) -> None:
        if not lines:
            if self._reader is None:
                self._reader = Reader(self._request)
            self._answer.add_each(block for _, block in self._reader.blocks([below]))
            return
        found = hits(lines)
        if self._matcher is not None:
            accepts = self._matcher.accepts
            found = (hit for hit in found if accepts(hit[1]))
        self._answer.add_each(self._recorder.blocks(below, found))

    def _in_order(self, run: Piped) -> Iterator[tuple[bytes, bytes]]:
        """Yield path below the root and lines of files, as they come."""
        output = Findings(self._root)
        while text := run.read():
            for path, lines in output.files(text):
                if self._is_wanted(path):
                    yield b"" if self._is_file else path[self._skip :], lines

    def _is_wanted(self, path: bytes) -> bool:
        """Tell whether the contract wants what ripgrep has found in a file."""
        if not self._is_asked_for(path):
            return False
        return not (self._is_looked_at and is_binary(path))

    def _is_asked_for(self, path: bytes) -> bool:
        if self._is_file:
            return True
        below = path[self._skip :]
        if self._after and order(below) < self._after:
            return False
        if self._included or self._excluded:
            names = below.split(b"/")
            if self._included and not self._included(names[-1]):
                return False
            if self._excluded and any(map(self._excluded, names)):
                return False
        return True

    def _words(self, *more: str) -> Words:
        request = self._request
        words: list[str | bytes] = [request.ripgrep or "rg", *_FLAGS, *more]
        words.append("--ignore-case" if request.ignore_case else "--case-sensitive")
        words.append("--crlf" if request.regex else "--fixed-strings")
        words += _GITIGNORE if request.gitignore else ["--no-ignore"]
        # Ripgrep reads globs its own way; what is not plain is sorted out afterwards.
        if request.include and not self._is_file:
            words += (f"--type-add=wanted:{widened(each)}" for each in request.include)
            words.append("--type=wanted")
        words += (f"--glob=!{each}" for each in request.exclude if is_plain(each))
        root = self._root if self._is_file else self._root + b"/"
        return [*words, b"--regexp=" + raw(request.pattern), b"--", root]
