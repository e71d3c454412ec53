"""Commits: making one from the index, and the history."""

import contextlib
import os
import re
from collections.abc import AsyncGenerator

from agent import wire
from agent.errors import InvalidRequestError
from agent.git.models import CommitInfo
from agent.git.refs import is_ref_name
from agent.git.registry import Repositories
from agent.git.repository import written_head
from agent.git.runner import Options, Runner

FORMAT = "%H%x00%an%x00%ae%x00%aI%x00%B%x00"
FIELDS = 5
_NOT_IN_A_NAME = re.compile(r"[<>\r\n\0]")
_NOTHING_IN_IT = re.compile(r"[\s.,:;\"'\\<>]*")
"""Git leaves these out at the ends of a name."""


async def commit(
    repositories: Repositories,
    path: str,
    message: str,
    author: tuple[str, str],
    *,
    allow_empty: bool,
) -> str:
    """Commit the index, its message as it is, and return the new commit's hash.

    Args:
        repositories: The owner.
        path: The root.
        message: Stored to the letter.
        author: Name and address, of the committer too.
        allow_empty: Also when nothing has changed.

    Raises:
        AgentError: Nothing has changed, files are unmerged, or the author has no name.
    """
    repository = await repositories.find_with_files(path)
    name, email = identity_of(author)
    if "\0" in message:
        raise InvalidRequestError("the message contains a NUL character")
    words = ["commit", "--quiet", "--cleanup=verbatim", "--no-verify", "--no-status"]
    words += ["--no-gpg-sign", "--file=-", *(["--allow-empty"] if allow_empty else [])]
    options = Options(
        stdin=message.encode(),
        variables={
            "GIT_AUTHOR_NAME": name,
            "GIT_AUTHOR_EMAIL": email,
            "GIT_COMMITTER_NAME": name,
            "GIT_COMMITTER_EMAIL": email,
        },
    )
    async with repositories.changing(repository) as change:
        await change.run(*words, options=options)
        # To ask git is another process.
        made = await repositories.runner.local.run(written_head, repository)
        if made is None:
            made = (await change.run("rev-parse", "--verify", "HEAD")).text
    return made


async def history(
    repositories: Repositories, path: str, limit: int | None, skip: int
) -> AsyncGenerator[bytes, None]:
    """Return the commits from HEAD, newest first, as JSON in pieces.

    Raises:
        AgentError: There is no repository there, or no commit yet.
    """
    repository = await repositories.find(path)
    words = ["log", "-z", f"--format=tformat:{FORMAT}", "--no-show-signature"]
    words += ["--no-mailmap", "--no-notes", "--no-decorate", f"--skip={skip}"]
    words += [] if limit is None else [f"--max-count={limit}"]
    blocks = repositories.runner.stream([*words, "HEAD", "--"], repository=repository)
    # The first one here, so that a failure is an ordinary answer.
    first = await anext(blocks, b"")
    return _as_json(repositories.runner, first, blocks)


async def _as_json(
    runner: Runner, first: bytes, blocks: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    rest, separator = b"", b"["
    block: bytes | None = first
    async with contextlib.aclosing(blocks):
        while block is not None:
            # In a thread, because a block holds a thousand commits.
            text, rest = await runner.local.run(_block_as_json, rest + block)
            if text:
                yield separator + text
                separator = b","
            block = await anext(blocks, None)
    yield b"[]" if separator == b"[" else b"]"


def _block_as_json(listed: bytes) -> tuple[bytes, bytes]:
    commits, rest = cut(listed)
    return b",".join(map(wire.encode, commits)), rest


def cut(listed: bytes) -> tuple[list[CommitInfo], bytes]:
    """Return the whole commits in a piece of `git log`, and what is left of the piece."""
    words = listed.split(b"\0")
    whole = (len(words) - 1) // (FIELDS + 1) * (FIELDS + 1)
    found = []
    for at in range(0, whole, FIELDS + 1):
        # Behind each commit stands a separator of its own, hence one more.
        number, name, email, when, message = (
            word.decode("utf-8", "replace") for word in words[at : at + FIELDS]
        )
        found.append(
            CommitInfo(
                hash=number, author=name, email=email, message=message, timestamp=when
            )
        )
    return found, b"\0".join(words[whole:])


def identity_of(author: tuple[str, str]) -> tuple[str, str]:
    """Return name and address as git can store them.

    Raises:
        InvalidRequestError: There is nothing in one of them.
    """
    name, email = (_NOT_IN_A_NAME.sub("", word) for word in author)
    if _NOTHING_IN_IT.fullmatch(name) or not email.strip():
        raise InvalidRequestError("author and email have to name somebody")
    return name, email


async def init(
    repositories: Repositories, path: str, *, bare: bool, initial_branch: str
) -> None:
    """Make an empty repository, with the directories above it.

    Raises:
        ConflictError: There is one already.
        InvalidRequestError: No branch can be called so.
    """
    if initial_branch and not is_ref_name(initial_branch):
        raise InvalidRequestError(f"invalid branch name: '{initial_branch}'")
    root = await repositories.free_place(path)
    if not initial_branch:
        asked = await repositories.runner.run(
            ("config", "--get", "init.defaultBranch"), options=Options(ok=(0, 1))
        )
        initial_branch = asked.text or "main"
    words = ["init", "--quiet", f"--initial-branch={initial_branch}"]
    async with repositories.locked(root):
        await repositories.runner.run(
            [*words, *(["--bare"] if bare else []), "--", root],
            cwd=os.sep,
            options=Options(writes=True),
        )
