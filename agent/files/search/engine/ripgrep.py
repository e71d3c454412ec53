"""Searches text with ripgrep, and gives its findings the contract's order and form.

Sorting would cost ripgrep its threads, so it searches in any order and the findings are
sorted here. When there are too many for that, it searches again, in order, and they are
passed on as they come. Ripgrep takes every file for text, because it would end at a NUL
byte anywhere; the contract's binary files are sorted out of those that match.
"""

import contextlib
import fcntl
import os
import re
import signal
from collections.abc import Iterator
from operator import itemgetter

from agent.files.search.engine.answer import Answer, Block, InvalidError, LateError
from agent.files.search.engine.bounds import (
    BLOCK_BYTES,
    COLLECTED_MAX_BYTES,
    CONTENT_MAX_BYTES,
)
from agent.files.search.engine.globs import any_test, is_plain, widened
from agent.files.search.engine.matching import Hit, Matcher, is_binary
from agent.files.search.engine.records import Recorder
from agent.files.search.engine.request import Request, order, raw

_FOUND = re.compile(rb"([^\0]+)\0(\d+):([^\n]*)\n")
_HEAD = re.compile(rb"[^\0]+\0\d+:")
_EXIT_ERROR = 2
"""Something could not be read, or the expression is none; the second comes with words."""
_WORDS_MAX_BYTES = 4096

_FLAGS = (
    "--no-config",
    "--no-messages",
    "--color=never",
    "--no-heading",
    "--with-filename",
    "--null",
    "--line-number",
    "--text",
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

Findings = list[tuple[bytes, list[Hit]]]


class UnusableError(Exception):
    """Ripgrep cannot be run, or has not come to its end."""


class Ripgrep:
    """One search.

    Args:
        request: What is searched for.
        answer: Where findings go.
    """

    def __init__(self, request: Request, answer: Answer) -> None:
        self._request = request
        self._answer = answer
        self._recorder = Recorder(request)
        self._root = raw(request.root)
        self._is_file = os.path.isfile(self._root)
        self._skip = len(self._root) + 1
        self._included = any_test(request.include)
        self._excluded = any_test(request.exclude)
        # Not of an expression, which is not Python's to read.
        texts = not request.regex and request.pattern.endswith("\r")
        self._matcher = Matcher(request) if texts else None
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
            with _Run(self._arguments("--sort=path")) as run:
                for block in self._blocks(run):
                    self._answer.add(block)
                run.finish()

    def _gather(self) -> bool:
        """Search in any order, sort, and add all; False when there is too much."""
        found: list[tuple[bytes, Block]] = []
        try:
            with _Run(self._arguments()) as run:
                size = 0
                for block in self._blocks(run):
                    found.append((order(block.path), block))
                    size += len(block.text)
                    if size > COLLECTED_MAX_BYTES:
                        return False
                run.finish()
        except LateError:
            self._answer.in_order = False
            self._add_sorted(found)
            raise
        self._add_sorted(found)
        return True

    def _add_sorted(self, found: list[tuple[bytes, Block]]) -> None:
        for _, block in sorted(found, key=itemgetter(0)):
            self._answer.add(block)

    def _blocks(self, run: "_Run") -> Iterator[Block]:
        """Yield what comes, in the order in which it comes."""
        rest = b""
        skipping = False
        while text := run.read():
            if skipping:
                end = text.find(b"\n")
                if end < 0:
                    continue
                text = text[end:]
                skipping = False
            findings, rest = _parse(rest + text)
            for path, hits in findings:
                yield from self._blocks_of(path, hits)
            if len(rest) > BLOCK_BYTES and (head := _HEAD.match(rest)):
                # Of a line this long no more than is told; its end is skipped.
                rest = rest[: head.end() + CONTENT_MAX_BYTES + 2]
                skipping = True

    def _blocks_of(self, path: bytes, hits: list[Hit]) -> Iterator[Block]:
        below = b"" if self._is_file else path[self._skip :]
        if not self._is_wanted(below) or is_binary(path):
            return
        if self._matcher is not None:
            hits = [hit for hit in hits if self._matcher.accepts(hit[1])]
        yield from self._recorder.blocks(below, hits)

    def _is_wanted(self, below: bytes) -> bool:
        if order(below) < self._after:
            return False
        if below and (self._included or self._excluded):
            names = os.fsdecode(below).split("/")
            if self._included and not self._included(names[-1]):
                return False
            if self._excluded and any(map(self._excluded, names)):
                return False
        return True

    def _arguments(self, *more: str) -> list[str | bytes]:
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


class _Run:
    """One process of ripgrep; to be used with `with`, which ends it."""

    def __init__(self, words: list[str | bytes]) -> None:
        self._output, output = os.pipe2(os.O_CLOEXEC)
        self._words = os.memfd_create("words", os.MFD_CLOEXEC)
        with contextlib.suppress(OSError):
            fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, BLOCK_BYTES)
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, self._words, 2),
        ]
        try:
            self._pid = os.posix_spawn(
                words[0], words, {}, file_actions=actions, setsigdef=[signal.SIGPIPE]
            )
        except OSError as error:
            os.close(self._output)
            os.close(self._words)
            raise UnusableError(str(error)) from error
        finally:
            os.close(output)

    def __enter__(self) -> "_Run":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._output)
        os.close(self._words)
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)

    def read(self) -> bytes:
        """Return the next piece of output; nothing at its end."""
        return os.read(self._output, BLOCK_BYTES)

    def finish(self) -> None:
        """Wait for the process, and see how it ended.

        Raises:
            InvalidError: The expression is none.
            UnusableError: It did not come to its end.
        """
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        code = os.waitstatus_to_exitcode(status)
        words = os.pread(self._words, _WORDS_MAX_BYTES, 0).decode(errors="replace")
        if code == _EXIT_ERROR and "regex" in words:
            raise InvalidError(words.strip())
        if code not in {0, 1, _EXIT_ERROR} or words:
            raise UnusableError(words or f"exit code {code}")


def _parse(text: bytes) -> tuple[Findings, bytes]:
    """Return the findings in ripgrep's output, file by file, and what is no whole line."""
    findings: Findings = []
    last = b""
    end = 0
    for match in _FOUND.finditer(text):
        path, number, content = match.groups()
        if path != last:
            findings.append((path, []))
            last = path
        if content.endswith(b"\r"):
            content = content[:-1]
        findings[-1][1].append((int(number), content))
        end = match.end()
    return findings, text[end:]


def can_search(request: Request) -> bool:
    """Tell whether ripgrep can be asked: an argument holds no NUL byte."""
    return request.ripgrep is not None and "\0" not in request.pattern
