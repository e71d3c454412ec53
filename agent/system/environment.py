"""The environment that commands are started with, as `/env` changes it.

It lives in the keeper, so that it outlasts the api process; here it is changed as a whole
and never in part: everything is checked first, then one new environment replaces the old.
Running processes keep theirs. Values are secrets as often as not, so none is ever logged
or quoted in an error.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence

from agent.errors import InvalidRequestError
from agent.keeper.client import Keeper

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_variables(variables: Mapping[str, str]) -> None:
    """Refuse names and values that no process could be started with.

    Raises:
        InvalidRequestError: A bad name, or a value with a NUL character.
    """
    for name, value in variables.items():
        if not NAME.fullmatch(name):
            raise InvalidRequestError(f"invalid environment variable name: '{name}'")
        if "\0" in value:
            raise InvalidRequestError(f"value of '{name}' contains a NUL character")


class Environment:
    """The environment of new processes."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        # Two updates at once must not lose one another's changes.
        self._lock = asyncio.Lock()

    async def update(
        self,
        variables: Mapping[str, str],
        unset: Sequence[str] = (),
        unset_value_prefix: str = "",
    ) -> None:
        """Remove `unset`, then by value, then set `variables`: all of it or nothing.

        Args:
            variables: What to set.
            unset: Names to remove; those that are not there do not matter.
            unset_value_prefix: Remove what has a value that begins so and is not in
                `variables`; empty removes nothing.

        Raises:
            InvalidRequestError: A bad name or value; nothing was changed.
        """
        check_variables(variables)
        check_variables(dict.fromkeys(unset, ""))
        async with self._lock:
            current = await self._keeper.environment()
            kept = {
                name: value
                for name, value in current.items()
                if name not in unset
                and not (
                    unset_value_prefix
                    and value.startswith(unset_value_prefix)
                    and name not in variables
                )
            }
            await self._keeper.set_environment({**kept, **variables})

    async def get(self, name: str) -> str | None:
        """Return the value that new processes see, or None."""
        return (await self._keeper.environment()).get(name)
