"""Answers for workspace symbols of a Python project; standard library only.

Runs as a process of its own, because parsing holds the interpreter, and speaks the
language server protocol as far as it needs to: `initialize`, `workspace/symbol`,
`shutdown` and `exit` on its standard input and output. With a question comes what changed
since the one before, or that nobody knows it; then the project is walked. What changed is
parsed again, so an answer is never older than its question.

What does not parse (agents ask while they write) is scanned line by line instead.
"""

import ast
import contextlib
import itertools
import json
import marshal
import os
import re
import stat
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_from_bytes

FILE_MAX_BYTES = 1024 * 1024
"""Larger ones are data, not code."""
FILES_MAX = 100_000
RESULTS_MAX = 1000
BUILD_LIMIT_S = 20.0
"""For one question; what is not parsed by then is the next one's."""
FORK_FROM = 400
"""Files to be parsed from which it is done by several processes."""
PROCESSES_MAX = 4
SKIPPED = frozenset(
    {
        "node_modules",
        "__pycache__",
        "site-packages",
        "__pypackages__",
    }
)

CLASS, METHOD, FIELD, FUNCTION, VARIABLE, CONSTANT = 5, 6, 8, 12, 13, 14

Symbol = tuple[str, int, int, int, int, int, str]
"""Name, kind, first line and character, last line and character, container."""

Stamp = tuple[int, int, int]
"""Modified, size, inode."""

_SCANNED = re.compile(
    r"^([ \t]*)(?:(class)|(?:async[ \t]+)?(def))[ \t]+([^\W\d]\w*)"
    r"|^([^\W\d]\w*)[ \t]*(?::[^=\n]+)?=(?!=)",
    re.MULTILINE,
)


def symbols_of(content: bytes) -> list[Symbol]:
    """Return what a file defines at its top and in its classes."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return list(_scanned(content.decode("utf-8", "replace")))
    lines = None if content.isascii() else content.split(b"\n")
    return list(_defined(tree.body, "", lines))


def _defined(
    body: list[ast.stmt], container: str, lines: list[bytes] | None
) -> Iterator[Symbol]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield _symbol(node.name, CLASS, node, container, lines)
            yield from _defined(node.body, node.name, lines)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            kind = METHOD if container else FUNCTION
            yield _symbol(node.name, kind, node, container, lines)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for name in _targets(node):
                kind = FIELD if container else CONSTANT if name.isupper() else VARIABLE
                yield _symbol(name, kind, node, container, lines)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from _defined(list(_inside(node)), container, lines)


def _inside(node: ast.If | ast.Try | ast.With) -> Iterator[ast.stmt]:
    for part in ("body", "handlers", "orelse", "finalbody"):
        for each in getattr(node, part, ()):
            yield from each.body if isinstance(each, ast.ExceptHandler) else [each]


def _targets(node: ast.Assign | ast.AnnAssign) -> Iterator[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    for target in targets:
        names = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
        yield from (each.id for each in names if isinstance(each, ast.Name))


def _symbol(
    name: str, kind: int, node: ast.stmt, container: str, lines: list[bytes] | None
) -> Symbol:
    last = node.end_lineno or node.lineno
    end = node.end_col_offset or 0
    return (
        name,
        kind,
        node.lineno - 1,
        _utf16(lines, node.lineno - 1, node.col_offset),
        last - 1,
        _utf16(lines, last - 1, end),
        container,
    )


def _utf16(lines: list[bytes] | None, line: int, offset: int) -> int:
    """Return how many UTF-16 code units lie before a byte of a line."""
    if lines is None or line >= len(lines) or lines[line].isascii():
        return offset
    before = lines[line][:offset].decode("utf-8", "replace")
    return len(before.encode("utf-16-le")) // 2


def _scanned(text: str) -> Iterator[Symbol]:
    """Yield what looks like definitions, of classes by their indentation."""
    container, depth, line, at = "", -1, 0, 0
    for match in _SCANNED.finditer(text):
        line += text.count("\n", at, match.start())
        at = match.start()
        name = match[4] or match[5]
        indent = len(match[1] or "")
        if indent <= depth:
            container, depth = "", -1
        width = len(match[0].encode("utf-16-le", "replace")) // 2
        inside = container if indent > depth >= 0 else ""
        if match[2]:
            kind, container, depth = CLASS, name, indent
        elif match[3]:
            kind = METHOD if inside else FUNCTION
        else:
            kind = CONSTANT if name.isupper() else VARIABLE
        yield (name, kind, line, indent, line, width, inside)


class Index:
    """What a project defines.

    Args:
        root: Its directory.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._stamps: dict[str, Stamp] = {}
        self._symbols: dict[str, list[Symbol]] = {}
        # By name, because the same few names stand in file after file.
        self._places: dict[str, list[str]] = {}
        self._is_whole = False

    def refresh(self, changed: list[str] | None = None) -> bool:
        """Take in what changed; False when there is more than the time allows.

        Args:
            changed: All files that may have changed since the last time; None: any.
        """
        if changed is None or not self._is_whole:
            found = dict(self._walk())
            gone = [each for each in self._stamps if each not in found]
        else:
            found = dict(self._look(changed))
            gone = [each for each in changed if each not in found]
        for path in gone:
            self._stamps.pop(path, None)
            self._take(path, [])
        stale = [
            path for path, stamp in found.items() if self._stamps.get(path) != stamp
        ]
        until = time.monotonic() + BUILD_LIMIT_S
        parsed = (
            parse(stale, until) if len(stale) < FORK_FROM else parse_all(stale, until)
        )
        for path, symbols in parsed:
            self._take(path, symbols)
            self._stamps[path] = found[path]
        self._is_whole = all(self._stamps.get(path) == found[path] for path in stale)
        return self._is_whole

    def find(self, query: str) -> list[dict[str, Any]]:
        """Return the best matches for a query."""
        lowered = query.lower()
        # Letters in this order, with anything between them.
        loose = re.compile(".*?".join(map(re.escape, lowered)), re.DOTALL)
        ranked = sorted(
            (rank, len(name), name)
            for name in self._places
            if (rank := _rank(name, query, lowered, loose)) is not None
        )
        return list(itertools.islice(self._told(ranked), RESULTS_MAX))

    def _told(self, ranked: list[tuple[int, int, str]]) -> Iterator[dict[str, Any]]:
        for _, _, name in ranked:
            for path in sorted(self._places[name]):
                for symbol in self._symbols[path]:
                    if symbol[0] == name:
                        yield _told(path, symbol)

    def _take(self, path: str, symbols: list[Symbol]) -> None:
        """Have these be the symbols of a file."""
        for name in {symbol[0] for symbol in self._symbols.pop(path, [])}:
            places = self._places[name]
            places.remove(path)
            if not places:
                del self._places[name]
        if symbols:
            self._symbols[path] = symbols
        for name in {symbol[0] for symbol in symbols}:
            self._places.setdefault(name, []).append(path)

    def _look(self, paths: list[str]) -> Iterator[tuple[str, Stamp]]:
        inside = self._root.rstrip("/") + "/"
        for path in paths:
            parts = path.removeprefix(inside).split("/")[:-1]
            if (
                path.endswith((".py", ".pyi"))
                and path.startswith(inside)
                and not any(each in SKIPPED or each.startswith(".") for each in parts)
                and (stamp := _stamp(path))
            ):
                yield path, stamp

    def _walk(self) -> Iterator[tuple[str, Stamp]]:
        directories, left = [self._root], FILES_MAX
        while directories and left > 0:
            try:
                entries = list(os.scandir(directories.pop()))
            except OSError:
                continue
            # A virtual environment, whatever it is called.
            if any(each.name == "pyvenv.cfg" for each in entries):
                continue
            directories += [each.path for each in entries if _is_entered(each)]
            for entry in entries:
                if entry.name.endswith((".py", ".pyi")) and (stamp := _stamp(entry)):
                    left -= 1
                    yield entry.path, stamp


def _is_entered(entry: os.DirEntry[str]) -> bool:
    if entry.name in SKIPPED or entry.name.startswith("."):
        return False
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _stamp(entry: os.DirEntry[str] | str) -> Stamp | None:
    try:
        status = os.stat(entry) if isinstance(entry, str) else entry.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_size > FILE_MAX_BYTES:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _rank(name: str, query: str, lowered: str, loose: re.Pattern[str]) -> int | None:
    if name == query:
        return 0
    low = name.lower()
    if low == lowered:
        return 1
    if low.startswith(lowered):
        return 2
    if lowered in low:
        return 3
    return 4 if loose.search(low) else None


def _told(path: str, symbol: Symbol) -> dict[str, Any]:
    name, kind, line, character, last, end, container = symbol
    uri = "file://" + quote_from_bytes(os.fsencode(path))
    told: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "location": {
            "uri": uri,
            "range": {
                "start": {"line": line, "character": character},
                "end": {"line": last, "character": end},
            },
        },
    }
    return told | ({"containerName": container} if container else {})


def parse(paths: list[str], until: float) -> Iterator[tuple[str, list[Symbol]]]:
    """Yield what files define, until the time is up."""
    for path in paths:
        if time.monotonic() > until:
            return
        content = b""
        with contextlib.suppress(OSError):
            # A FIFO would wait for its writer for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                content = file.read(FILE_MAX_BYTES)
        yield path, symbols_of(content)


def parse_all(paths: list[str], until: float) -> Iterator[tuple[str, list[Symbol]]]:
    """Yield the same, found by a process for each processor."""
    count = max(1, min(len(os.sched_getaffinity(0)), PROCESSES_MAX))
    helpers = [_fork(paths[number::count], until) for number in range(count)]
    for pid, pipe in helpers:
        with open(pipe, "rb") as file:
            content = file.read()
        os.waitpid(pid, 0)
        if content:
            yield from marshal.loads(content)  # noqa: S302 - from our own child


def _fork(paths: list[str], until: float) -> tuple[int, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    try:
        with open(writing, "wb") as file:
            file.write(marshal.dumps(list(parse(paths, until))))
    finally:
        os._exit(0)


def receive() -> dict[str, Any] | None:
    """Return the next message, or None at the end."""
    length = 0
    while line := sys.stdin.buffer.readline():
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
        elif not line.strip():
            message: dict[str, Any] = json.loads(sys.stdin.buffer.read(length))
            return message
    return None


def send(number: object, result: object) -> None:
    """Answer a request."""
    text = json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode()
    sys.stdout.buffer.write(b"Content-Length: %d\r\n\r\n%s" % (len(text), text))
    sys.stdout.buffer.flush()


def main() -> None:
    """Answer until the end of the input."""
    warnings.simplefilter("ignore")
    # As it is called, which may be by way of a link.
    index = Index(sys.argv[1])
    while (message := receive()) is not None:
        method = message.get("method")
        if method == "workspace/symbol":
            asked = message["params"]
            whole = index.refresh(asked.get("changed"))
            symbols = index.find(asked["query"])
            send(message["id"], {"symbols": symbols, "isWhole": whole})
        elif method == "exit":
            return
        elif "id" in message:
            send(message["id"], {"capabilities": {}})


if __name__ == "__main__":
    main()
