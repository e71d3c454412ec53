"""Remembers what git said of a repository's configuration, as long as no file changes.

Asking takes a run of git, as long as many an answer that is asked for. What counts is by
which files it was made: their times, sizes and numbers. Files that were changed a moment
ago could be changed again within the same tick of the clock, and files that include
others may change without changing themselves, so neither is remembered.
"""

import os
import time
from collections import OrderedDict
from collections.abc import Mapping

from agent.git.guards import Configuration
from agent.git.repository import Repository

REMEMBERED_MAX = 256
"""Repositories; of more, those that were asked for longest ago are forgotten."""
SETTLED_NS = 100_000_000
"""Since its last change; the kernel's clock for files ticks every few milliseconds."""

Signature = tuple[tuple[str, tuple[int, ...]], ...]


class Configurations:
    """What was said of each repository, by the files that it was made of."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[Signature, Configuration]] = OrderedDict()

    def get(self, repository: Repository, signature: Signature) -> Configuration | None:
        """Return what is known, if it was made of the same files."""
        known = self._known.get(repository.git_dir)
        if known is None or known[0] != signature:
            return None
        self._known.move_to_end(repository.git_dir)
        return known[1]

    def put(
        self, repository: Repository, signature: Signature, found: Configuration
    ) -> None:
        """Remember what git said, unless it could change unseen."""
        self._known.pop(repository.git_dir, None)
        includes = any(
            each.section in {"include", "includeif"} for each in found.entries
        )
        if includes or not _is_settled(signature):
            return
        self._known[repository.git_dir] = signature, found
        while len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)


def signature(repository: Repository, environment: Mapping[str, str]) -> Signature:
    """Return what tells one state of a repository's configuration from another.

    Looks at the disk: `git help config`, "FILES".
    """
    home = environment.get("HOME", "")
    own_config = environment.get("XDG_CONFIG_HOME") or f"{home}/.config"
    paths = [
        os.path.join(repository.common_dir, "config"),
        os.path.join(repository.git_dir, "config.worktree"),
        environment.get("GIT_CONFIG_GLOBAL") or f"{home}/.gitconfig",
        f"{own_config}/git/config",
        environment.get("GIT_CONFIG_SYSTEM") or "/etc/gitconfig",
        "/usr/local/etc/gitconfig",
    ]
    return tuple((path, _state(path)) for path in paths)


def _state(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    times = (found.st_mtime_ns, found.st_ctime_ns)
    return (found.st_dev, found.st_ino, found.st_size, *times)


def _is_settled(signature: Signature) -> bool:
    newest = max((state[-1] for _, state in signature if state), default=0)
    return newest < time.time_ns() - SETTLED_NS
