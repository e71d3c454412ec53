"""What differs between HEAD, the index and the files (`git help status`, porcelain v2)."""

import os

from agent import wire
from agent.git.models import FileStatus, Status
from agent.git.registry import Repositories
from agent.wire import UNSET

WORDS = {
    ".": "Unmodified",
    "M": "Modified",
    # A change of kind: a file that became a link, say.
    "T": "Modified",
    "A": "Added",
    "D": "Deleted",
    "R": "Renamed",
    "C": "Copied",
}
UNTRACKED = "Untracked"
UNMERGED = "Updated but unmerged"


async def status(
    repositories: Repositories, path: str, *, with_new_fields: bool
) -> bytes:
    """Return the status of a repository as JSON.

    Args:
        repositories: The owner.
        path: The root.
        with_new_fields: Tell what the first versions did not have.

    Raises:
        AgentError: There is no repository with files there.
    """
    repository = await repositories.find_with_files(path)
    output = await repositories.read(
        repository,
        *("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all"),
        # Whether a submodule has changes of its own is not asked: git would run in it.
        *("--no-renames", "--ignore-submodules=dirty", "--ahead-behind"),
    )
    return await repositories.runner.local.run(
        lambda: wire.encode(parse(output.stdout, with_new_fields=with_new_fields))
    )


def parse(listed: bytes, *, with_new_fields: bool = True) -> Status:
    """Return what `git status --porcelain=v2 --branch -z` printed."""
    branch: dict[str, str] = {}
    files: dict[bytes, tuple[str, str]] = {}
    for line in listed.split(b"\0"):
        kind = line[:2]
        if kind == b"# ":
            name, _, value = os.fsdecode(line[2:]).partition(" ")
            branch[name] = value
        elif kind == b"1 ":
            words = line.split(b" ", 8)
            # What is untracked wins: its staged deletion comes first.
            files.setdefault(words[8], _words(words[1]))
        elif kind == b"u ":
            files[line.split(b" ", 10)[10]] = (UNMERGED, UNMERGED)
        elif kind == b"? ":
            files[line[2:]] = (UNTRACKED, UNTRACKED)
    head = branch.get("branch.head", "")
    detached = head == "(detached)"
    ahead, behind = _ahead_behind(branch.get("branch.ab", ""))
    upstream = branch.get("branch.upstream", "")
    return Status(
        current_branch="HEAD" if detached else wire.printable(head),
        file_status=[
            FileStatus(name=_name(name), staging=staging, worktree=worktree)
            for name, (staging, worktree) in sorted(files.items())
        ],
        branch_published="branch.ab" in branch,
        ahead=ahead,
        behind=behind,
        detached=True if detached and with_new_fields else UNSET,
        upstream=wire.printable(upstream) if upstream and with_new_fields else UNSET,
    )


def _name(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _words(pair: bytes) -> tuple[str, str]:
    text = pair.decode("ascii")
    return WORDS[text[0]], WORDS[text[1]]


def _ahead_behind(text: str) -> tuple[int, int]:
    ahead, _, behind = text.partition(" ")
    return (int(ahead), -int(behind)) if behind else (0, 0)
