"""What the timeline is told of an operation on a repository: its verb, where, how it went.

No argument of git's is told: addresses hold credentials, and messages are contents.
"""

import os
import time

from agent.keeper.client import Keeper
from agent.web.errors import failure_of
from agent.wire import printable

VERBS = frozenset(
    {
        "add",
        "am",
        "branch",
        "checkout",
        "cherry-pick",
        "clone",
        "commit",
        "fetch",
        "init",
        "merge",
        "pull",
        "push",
        "rebase",
        "remote",
        "reset",
        "restore",
        "revert",
        "rm",
        "stash",
        "submodule",
        "switch",
        "tag",
        "update-ref",
        "worktree",
    }
)
"""What an operation is known by; all else that it runs only looks, or prepares."""


class Account:
    """Tells of one operation, from its first verb on.

    Args:
        keeper: Has the timeline.
        path: Where the repository is, or will be.
        state_dir: What is below that is our own business.
    """

    def __init__(self, keeper: Keeper, path: bytes, state_dir: str) -> None:
        self._keeper = keeper
        self._path = printable(os.fsdecode(path))
        self._is_ours = self._path.startswith(f"{state_dir}/")
        self._verbs: list[str] = []
        self._began = 0.0

    def ran(self, verb: str) -> None:
        """Take note that git is about to do something."""
        if self._is_ours or verb not in VERBS or verb in self._verbs:
            return
        self._verbs.append(verb)
        if len(self._verbs) == 1:
            self._began = time.monotonic()
            self._keeper.tell("git.started", verb=verb, path=self._path)

    def ended(self, error: BaseException | None) -> None:
        """Tell how it went, if it did anything."""
        if not self._verbs:
            return
        lasted_ms = round((time.monotonic() - self._began) * 1000, 3)
        failed = failure_of(error).code if isinstance(error, Exception) else "CANCELLED"
        self._keeper.tell(
            "git.ended",
            verb=self._verbs[0],
            verbs=self._verbs,
            path=self._path,
            ok=error is None,
            error=None if error is None else failed,
            duration_ms=lasted_ms,
        )
