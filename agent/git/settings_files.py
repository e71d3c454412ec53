"""Git's own configuration files: one scope at a time, nothing inherited (contract 20 §13).

A value may be a secret, and git takes values by its command line alone, which everybody
can read. So git puts a random word into a copy, and we put the value in that word's place
and the copy in the file's, under the lock that git itself would take.
"""

import asyncio
import os
import re
import secrets
import shutil
import stat
import tempfile

from agent.errors import ConflictError, InvalidRequestError
from agent.files.paths import told_as
from agent.git.registry import Repositories
from agent.git.repository import Repository
from agent.git.runner import LOCK_PAUSES_S, Options

SCOPES = ("global", "local", "system")
KEY = re.compile(r"[A-Za-z0-9-]+\.(?:[^\n\0]+\.)?[A-Za-z][A-Za-z0-9-]*")

ESCAPES = (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t"), ("\b", "\\b"))
NOT_PLAIN = re.compile(r"^\s|\s$|[;#\r]|^$")
"""Of a value, what is lost unless it is quoted."""


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
        file = await _file(repositories, scope, repository)
        for pause in (*LOCK_PAUSES_S, 0):
            if await _edit(repositories, file, values):
                return
            await asyncio.sleep(pause)
    raise ConflictError(f"{file}.lock exists, or the file keeps changing")


async def _edit(repositories: Repositories, file: str, values: dict[str, str]) -> bool:
    """Set the values; False when somebody else holds or changed the file."""
    runner = repositories.runner
    private = await runner.local.run(
        tempfile.mkdtemp, ".config", None, repositories.settings.state_dir
    )
    try:
        copy = os.path.join(private, "config")
        before = await runner.local.run(_copy, file, copy)
        words: dict[bytes, bytes] = {}
        for key, value in values.items():
            word = secrets.token_hex(16)
            words[word.encode()] = _quoted(value)
            await runner.run(
                ("config", "--file", copy, "--replace-all", key, word),
                options=Options(writes=True),
            )
        return await runner.local.run(_put, file, copy, before, words)
    finally:
        await runner.local.run(shutil.rmtree, private)


def _copy(file: str, copy: str) -> bytes | None:
    """Copy a configuration file; return what it says, None when there is none."""
    found = _read(file)
    with open(copy, "wb") as opened:
        opened.write(found or b"")
    return found


def _read(file: str) -> bytes | None:
    try:
        # Never waits: what should be a file may be a pipe without a writer.
        opened = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with told_as(file), open(opened, "rb") as content:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise InvalidRequestError(f"{file} is no file")
        return content.read()


def _put(file: str, copy: str, before: bytes | None, words: dict[bytes, bytes]) -> bool:
    """Put a finished copy in the file's place, unless somebody else is at it."""
    with open(copy, "rb") as opened:
        content = opened.read()
    for word, value in words.items():
        content = content.replace(word, value)
    lock = f"{file}.lock"
    with told_as(file):
        try:
            held = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        try:
            with open(held, "wb") as opened:
                if _read(file) != before:
                    os.unlink(lock)
                    return False
                if before is not None:
                    os.fchmod(held, stat.S_IMODE(os.stat(file).st_mode))
                opened.write(content)
            os.rename(lock, file)
        except BaseException:
            os.unlink(lock)
            raise
    return True


def _quoted(value: str) -> bytes:
    """Return a value as git's files have it (`git help config`, "Syntax")."""
    for plain, escaped in ESCAPES:
        value = value.replace(plain, escaped)
    return f'"{value}"'.encode() if NOT_PLAIN.search(value) else value.encode()


async def _file(
    repositories: Repositories, scope: str, repository: Repository | None
) -> str:
    """Return the file of a scope, links followed as git follows them."""
    if repository is not None:
        return os.path.join(repository.common_dir, "config")
    if scope == "system":
        # Where it lies was settled when git was built; only git knows.
        told = await repositories.runner.run(
            ("config", "--system", "--edit"),
            options=Options(variables={"GIT_EDITOR": "printf %s"}),
        )
        return await repositories.runner.local.run(os.path.realpath, told.text)
    environment = await repositories.environment()
    named = environment.get("GIT_CONFIG_GLOBAL")
    home = environment.get("HOME")
    if not named and not home:
        raise InvalidRequestError("there is no home directory to keep it in")
    own = os.path.join(home or "", ".gitconfig")
    base = environment.get("XDG_CONFIG_HOME") or os.path.join(home or "", ".config")
    other = os.path.join(base, "git", "config")
    return await repositories.runner.local.run(
        lambda: os.path.realpath(
            named or (other if not _exists(own) and _exists(other) else own)
        )
    )


def _exists(file: str) -> bool:
    return os.access(file, os.R_OK)


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
