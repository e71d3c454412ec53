"""Reads what `git blame --porcelain` tells (man git-blame, "The porcelain format")."""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone

import msgspec

from agent.errors import InvalidRequestError, NotFoundError
from agent.git.failures import failure_of
from agent.git.history.commits import commit_of
from agent.git.history.models import Blame, BlamedCommit, BlamedLine
from agent.git.refs import check_files
from agent.git.registry import Repositories
from agent.git.runner import Options

LINES_MAX = 50_000
"""Lines of one answer; they are held in memory."""
_SHORT = re.compile(rb"has only (\d+) lines?")


class _Known(msgspec.Struct):
    """What was told of a commit so far; it is told once, with its first line."""

    words: dict[str, str] = msgspec.field(default_factory=dict)


class BlameReader:
    """Takes the lines of git's answer, one after the other."""

    def __init__(self) -> None:
        self._lines: list[BlamedLine] = []
        self._known: dict[str, _Known] = {}
        self._head: list[str] = []
        self.full = False

    def read(self, answer: Iterable[bytes]) -> Blame:
        """Return the blame that `answer`, lines without their ends, tells of."""
        for raw in answer:
            self._take(raw.decode("utf-8", "replace"))
            if self.full:
                break
        commits = {key: _commit(each.words) for key, each in self._known.items()}
        told = {each.hash for each in self._lines}
        return Blame(
            lines=self._lines,
            commits={key: each for key, each in commits.items() if key in told},
            truncated=self.full,
        )

    def _take(self, line: str) -> None:
        if not self._head:
            self._head = line.split(" ")
            self._known.setdefault(self._head[0], _Known())
        elif line.startswith("\t"):
            self._end(line[1:])
        else:
            key, _, value = line.partition(" ")
            self._known[self._head[0]].words[key] = value

    def _end(self, content: str) -> None:
        if len(self._lines) >= LINES_MAX:
            self.full = True
            return
        commit, original, final = self._head[:3]
        self._head = []
        self._lines.append(
            BlamedLine(
                line=int(final),
                original_line=int(original),
                hash=commit,
                path=self._known[commit].words.get("filename", ""),
                content=content,
            )
        )


def _commit(words: dict[str, str]) -> BlamedCommit:
    return BlamedCommit(
        author=words.get("author", ""),
        email=words.get("author-mail", "").removeprefix("<").removesuffix(">"),
        timestamp=moment(
            words.get("author-time", "0"), words.get("author-tz", "+0000")
        ),
        summary=words.get("summary", ""),
    )


def moment(seconds: str, offset: str) -> str:
    """Return git's time and offset (`+0130`) in RFC 3339.

    Both come from a commit, so they may be anything; nonsense is 1970 in UTC.
    """
    try:
        sign = -1 if offset.startswith("-") else 1
        digits = offset.lstrip("+-")
        shift = sign * timedelta(hours=int(digits[:-2] or 0), minutes=int(digits[-2:]))
        return datetime.fromtimestamp(int(seconds), timezone(shift)).isoformat()
    except (ValueError, OverflowError, OSError):
        return "1970-01-01T00:00:00+00:00"


class BlameRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines of which file, and by which commit; none: as the file is now."""

    file: str
    revision: str | None = None
    start: int = 1
    end: int | None = None


async def blame(repositories: Repositories, path: str, wanted: BlameRequest) -> Blame:
    """Return who wrote which line of a file.

    Raises:
        InvalidRequestError: The lines make no sense.
        NotFoundError: The file, or the revision, is not there.
    """
    repository = await repositories.find(path)
    check_files([wanted.file])
    start, end = wanted.start, wanted.end
    if start < 1 or (end is not None and end < start):
        raise InvalidRequestError("start and end must be lines, counted from 1")
    revision: list[str] = []
    if wanted.revision is not None:
        revision = [await commit_of(repositories, repository, wanted.revision)]
    else:
        repository.require_work_tree()
    # One more than is told, to see whether there are more.
    last = min(end or start + LINES_MAX, start + LINES_MAX)
    output = await repositories.read(
        *(repository, "blame", "--porcelain", f"-L{start},{last}"),
        *(*revision, "--", wanted.file),
        # A file of revisions that the repository names would be read, whatever it is.
        options=Options(ok=(0, 128), settings=[("blame.ignoreRevsFile", "")]),
    )
    if output.code == 0:
        return await repositories.runner.local.run(_read, output.stdout)
    said = output.stderr.lower()
    if b"no such path" in said or b"no such file" in said:
        raise NotFoundError(f"file not found: {wanted.file}", code="FILE_NOT_FOUND")
    short = _SHORT.search(said)
    if short is None:
        raise failure_of(output)
    if start > 1:
        raise InvalidRequestError(
            f"{wanted.file} has only {short[1].decode()} lines; start is {start}"
        )
    return Blame(lines=[], commits={}, truncated=False)


def _read(answer: bytes) -> Blame:
    return BlameReader().read(answer.split(b"\n")[:-1])
