"""Which shell runs commands, and how a command becomes its arguments.

The order is contract 30 §3.1, unless the option `shell` names one; it is resolved in this
process, without asking another.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from agent.keeper.client import Keeper

PREFERRED = ("/usr/bin/zsh", "/bin/zsh", "/usr/bin/bash", "/bin/bash")
LAST_RESORT = "/bin/sh"
ARGUMENT_MAX_BYTES = 128 * 1024 - 1
"""Linux takes no longer single argument (MAX_ARG_STRLEN, less its NUL)."""


def choose_shell(listed: Iterable[str] | None, environment_shell: str | None) -> str:
    """Return the shell to use; never empty, and it can be executed.

    Args:
        listed: The lines of `/etc/shells`, or None when it cannot be read.
        environment_shell: The value of `SHELL`, if any.
    """
    candidates: list[str] = []
    if listed is not None:
        names = {line.strip() for line in listed if not line.startswith("#")}
        candidates = [shell for shell in PREFERRED if shell in names]
        if environment_shell:
            candidates.append(environment_shell)
    return next(
        (shell for shell in candidates if os.access(shell, os.X_OK)), LAST_RESORT
    )


class Shells:
    """Knows which shell this sandbox has; asked once, as it does not change.

    Args:
        keeper: Who knows the options, and the environment of new processes.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._chosen: str | None = None

    async def choose(self) -> str:
        """Return the shell to use; never empty, and it can be executed."""
        if self._chosen is None:
            self._chosen = self._keeper.settings.shell or None
        if self._chosen is None:
            variables = await self._keeper.environment()
            self._chosen = choose_shell(listed_shells(), variables.get("SHELL"))
        return self._chosen


def listed_shells() -> list[str] | None:
    """Return the lines of `/etc/shells`, or None when it cannot be read."""
    try:
        return Path("/etc/shells").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
