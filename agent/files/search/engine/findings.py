"""Reads what ripgrep prints, and makes the answer's JSON of it.

A finding is `path NUL number NUL NUL content`, on a line of its own; names may have line
ends, contents may have NUL bytes.
"""

from _collections_abc import Iterator
from _json import encode_basestring

from agent.files.search.engine.bounds import CONTENT_MAX_BYTES
from agent.files.search.engine.matching import Hit

SEPARATOR = b"\0\0"
"""Between number and content; ripgrep 13 is the first that can be told so."""
_FILE, _NUMBER, _CONTENT = "\ud800", "\ud801", "\ud802"
"""Stand where the parts of a record begin while it is escaped: no decoded text has them."""


def by_file(text: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return the files in output, each with its lines, and what is no whole line."""
    found: list[tuple[bytes, bytes]] = []
    find, starts = text.find, text.startswith
    at = 0
    while (nul := find(b"\0", at)) >= 0:
        end = _line_end(text, nul + 1)
        if not end:
            break
        mine = text[at : nul + 1]
        while starts(mine, end) and (more := _line_end(text, end + len(mine))):
            end = more
        found.append((mine[:-1], text[at:end]))
        at = end
    return found, text[at:]


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


def shortened(rest: bytes) -> bytes:
    """Return what is needed of a line whose end has not come yet."""
    middle = rest.find(SEPARATOR)
    return rest[: middle + 2 + CONTENT_MAX_BYTES + 2] if middle >= 0 else rest


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
    if max(map(len, lines.split(b"\n"))) > CONTENT_MAX_BYTES:
        return None
    text = "\n" + lines.replace(b"\r\n", b"\n").decode("utf-8", "replace")[:-1]
    text = text.replace("\n" + root, _FILE)
    if text.count(_FILE) != count:
        return None
    text = text.replace("\0\0", _CONTENT).replace("\0", _NUMBER)
    text = encode_basestring(text)[2:]
    opening = '{"file":' + encode_basestring(shown)[:-1]
    text = text.replace(_FILE, '"},' + opening)
    text = text.replace(_NUMBER, '","line":').replace(_CONTENT, ',"content":"')
    return f"{opening}{text}}}".encode(), count
