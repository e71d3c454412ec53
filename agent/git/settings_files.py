"""Git's own configuration files: one scope at a time, nothing inherited (contract 20 §13)."""

import re

from agent.errors import InvalidRequestError
from agent.git.registry import Repositories
from agent.git.repository import Repository
from agent.git.runner import Options

SCOPES = ("global", "local", "system")
KEY = re.compile(r"[A-Za-z0-9-]+\.(?:[^\n\0]+\.)?[A-Za-z][A-Za-z0-9-]*")


async def get_value(
    repositories: Repositories, key: str, scope: str | None, path: str | None
) -> str | None:
    """Return the value that counts in one scope, or None.

    Raises:
        InvalidRequestError: There is no such scope, or no key can be called so.
    """
    scope, repository = await _place(repositories, scope, path)
    _check_key(key)
    output = await repositories.runner.run(
        ("config", f"--{scope}", "--null", "--get", key),
        repository=repository,
        options=Options(ok=(0, 1)),
    )
    if output.code == 1:
        return None
    return output.text.removesuffix("\0")


async def set_values(
    repositories: Repositories,
    values: dict[str, str],
    scope: str | None,
    path: str | None,
) -> None:
    """Set keys in one scope; each has one value afterwards, all else is kept.

    Raises:
        InvalidRequestError: There is no such scope, or no key can be called so.
    """
    scope, repository = await _place(repositories, scope, path)
    for key, value in values.items():
        _check_key(key)
        if "\0" in value:
            raise InvalidRequestError(f"value of {key} contains a NUL character")
    name = repository.common_dir if repository else f"configuration:{scope}"
    async with repositories.locked(name):
        for key, value in values.items():
            await repositories.runner.run(
                ("config", f"--{scope}", "--replace-all", key, value),
                repository=repository,
                options=Options(writes=True),
            )


async def _place(
    repositories: Repositories, scope: str | None, path: str | None
) -> tuple[str, Repository | None]:
    scope = scope or "global"
    if scope not in SCOPES:
        raise InvalidRequestError(f"invalid scope: '{scope}'")
    if scope != "local":
        return scope, None
    if not path:
        raise InvalidRequestError("path is required when scope is local")
    return scope, await repositories.find(path)


def _check_key(key: str) -> None:
    if not KEY.fullmatch(key):
        raise InvalidRequestError(f"invalid config key: '{key}'")
