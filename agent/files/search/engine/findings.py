r"""Reads what ripgrep prints, and makes the answer's JSON of it.

A finding is `path NUL number NUL NUL content`, on a line of its own; names may have line
ends, contents may have NUL bytes. Where ripgrep looks for binary files, contents have
none: of a file that has one it says so behind what it has found until there, in words
like `path: binary file matches (found "\0" byte around offset 1)`.
"""

import os
from _collections_abc import Iterator
from _json import encode_basestring

from agent.files.search.engine.bounds import BLOCK_BYTES, CONTENT_MAX_BYTES
from agent.files.search.engine.matching import Hit
from agent.files.search.engine.process import UnusableError

SEPARATOR = b"\0\0"
"""Between number and content; ripgrep 13 is the first that can be told so."""
_BINARY = b": binary file matches (found "
_MARK = "\x7f"
"""Stands between the parts of a record while it is escaped, because it is not."""
_FILE, _NUMBER, _CONTENT = _MARK + "f", _MARK + "n", _MARK + "c"


class Findings:
    """Takes ripgrep's output apart, piece by piece.

    Args:
        root: What all paths begin with.

    Attributes:
        binary: The paths of files with a NUL byte, of which not all is found.
    """

    def __init__(self, root: bytes) -> None:
        self._root = root
        self.binary: set[bytes] = set()
        self._rest = b""
        self._is_skipping = False

    def files(self, text: bytes) -> list[tuple[bytes, bytes]]:
        """Return the files in the next piece of output, each with its lines.

        Raises:
            UnusableError: Names of files read like ripgrep's own words.
        """
        if self._is_skipping:
            end = text.find(b"\n")
            if end < 0:
                return []
            text = text[end:]
            self._is_skipping = False
        return self._by_file(self._rest + text if self._rest else text)

    def finish(self) -> None:
        """Take what was left for the case that more comes.

        Raises:
            UnusableError: Names of files read like ripgrep's own words.
        """
        self._take_words(self._rest, 0, len(self._rest), is_last=True)

    def _by_file(self, text: bytes) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        find, starts = text.find, text.startswith
        at = 0
        while (nul := find(b"\0", at)) >= 0:
            if find(b"\n", at, nul) >= 0:
                at = self._take_words(text, at, nul)
            end = _line_end(text, nul + 1)
            if not end:
                break
            mine = text[at : nul + 1]
            while starts(mine, end) and (more := _line_end(text, end + len(mine))):
                end = more
            found.append((mine[:-1], text[at:end]))
            at = end
        if nul < 0:
            at = self._take_words(text, at, len(text))
        self._keep(text[at:])
        return found

    def _keep(self, rest: bytes) -> None:
        """Keep what is no whole line yet."""
        middle = rest.find(SEPARATOR) if len(rest) > BLOCK_BYTES else -1
        if middle >= 0:
            # Of a line this long no more than is told; its end is skipped.
            rest = rest[: middle + 2 + CONTENT_MAX_BYTES + 2]
            self._is_skipping = True
        self._rest = rest

    def _take_words(
        self, text: bytes, at: int, end: int, *, is_last: bool = False
    ) -> int:
        """Take what ripgrep says of binary files; return where something else begins."""
        while behind := self._words_end(text, at, end, is_last=is_last):
            path = text[at : text.rfind(_BINARY, at, behind)]
            if os.path.lexists(text[at:behind]):
                # Somebody has made a directory of this name. Whose lines are these?
                raise UnusableError("a name reads like ripgrep's words")
            self.binary.add(path)
            at = behind
        return at

    def _words_end(self, text: bytes, at: int, end: int, *, is_last: bool) -> int:
        """Return where words on a binary file end; 0: there are none."""
        behind = text.find(_BINARY, at, end)
        while behind >= 0 and (behind := text.find(b"\n", behind, end) + 1):
            # Another path begins there. No part of a name does: it has no slash.
            if text.startswith(self._root, behind) or (is_last and behind == end):
                return behind
        return 0


def _line_end(text: bytes, at: int) -> int:
    """Return where the line ends whose number begins at `at`; 0: not in `text`."""
    middle = text.find(SEPARATOR, at)
    return text.find(b"\n", middle + 2) + 1 if middle >= 0 else 0


def hits(lines: bytes) -> Iterator[Hit]:
    """Yield the findings in the lines of one file."""
    head = lines.find(b"\0") + 1
    at = 0
    while at < len(lines):
        middle = lines.find(SEPARATOR, at + head)
        end = lines.find(b"\n", middle + 2)
        yield int(lines[at + head : middle]), _content(lines[middle + 2 : end])
        at = end + 1


def _content(line: bytes) -> bytes:
    return line[:-1] if line.endswith(b"\r") else line


def quick_json(lines: bytes, root: str, shown: str) -> tuple[bytes, int] | None:
    """Return findings as JSON with commas between, escaped all at once, and their count.

    Args:
        lines: Of any files.
        root: What all paths begin with.
        shown: What they are told to begin with.

    Returns:
        None when each finding has to be looked at: lines are too long to be told, or
        hold NUL bytes, or names have line ends.
    """
    count = lines.count(b"\n")
    if lines.count(SEPARATOR) != count or lines.count(b"\0") != 3 * count:
        return None
    if b"\x7f" in lines or _has_long_line(lines):
        return None
    text = "\n" + lines.replace(b"\r\n", b"\n").decode("utf-8", "replace")[:-1]
    text = text.replace("\n" + root, _FILE)
    if text.count(_FILE) != count:
        return None
    text = text.replace("\0\0", _CONTENT).replace("\0", _NUMBER)
    # Without the quote, and what stands before the first path.
    text = encode_basestring(text)[1 + len(_FILE) :]
    opening = '{"file":' + encode_basestring(shown)[:-1]
    text = text.replace(_FILE, '"},' + opening)
    text = text.replace(_NUMBER, '","line":').replace(_CONTENT, ',"content":"')
    return f"{opening}{text}}}".encode(), count


def _has_long_line(lines: bytes) -> bool:
    if len(lines) <= CONTENT_MAX_BYTES:
        return False
    return max(map(len, lines.split(b"\n"))) > CONTENT_MAX_BYTES
