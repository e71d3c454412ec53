"""Drives git with PyPI `daytona`; the argument: sync or async of 0.226.1, first of 0.25.6."""

# mypy: disable-error-code="import-not-found, untyped-decorator, no-any-return"
# ruff: noqa: ASYNC240 - nothing else waits for this loop

import asyncio
import inspect
import sys
from pathlib import Path
from typing import Any

import daytona as package
from harness import failure, given, run_without_loop, scenario, tell_all

REMOTE, USER, PASSWORD = given["remote"], given["user"], given["password"]
AUTHOR = ("Ada", "ada@example.test")
work = Path(given["work"])


async def done(value: Any) -> Any:
    """Return what a call of either client gives."""
    return await value if inspect.isawaitable(value) else value


async def attempt(function: Any, *arguments: Any, **named: Any) -> dict[str, Any]:
    """Return what the client makes of a call that must fail."""

    async def call() -> None:
        await done(function(*arguments, **named))

    return await failure(call())


async def git_of(daytona: Any) -> Any:
    return (await done(daytona.create())).git


async def is_newest(daytona: Any) -> bool:
    return hasattr(await git_of(daytona), "init")


@scenario
async def distant(daytona: Any) -> dict[str, Any]:
    """Clone, change, push, and pull in another clone."""
    git = await git_of(daytona)
    one, two = str(work / "one"), str(work / "two")
    told: dict[str, Any] = {
        "without": await attempt(git.clone, REMOTE, one),
        "wrong": await attempt(git.clone, REMOTE, one, username=USER, password="x"),
    }
    for path in (one, two):
        await done(git.clone(REMOTE, path, username=USER, password=PASSWORD))
    told["cloned"] = (work / "one/a.txt").read_text()
    told["kept"] = PASSWORD in (work / "one/.git/config").read_text()
    (work / "one/a.txt").write_text("changed")
    await done(git.add(one, ["a.txt"]))
    made = await done(git.commit(one, "changed", *AUTHOR))
    told["ahead"] = (await done(git.status(one))).ahead
    await done(git.push(one, USER, PASSWORD))
    await done(git.pull(two, USER, PASSWORD))
    told["pulled"] = (work / "two/a.txt").read_text()
    status = await done(git.status(two))
    told["status"] = [
        status.current_branch,
        status.branch_published,
        status.ahead,
        status.behind,
        status.file_status,
    ]
    told["sha"] = len(made.sha)
    for path, content in ((one, "again"), (two, "otherwise")):
        Path(path, "a.txt").write_text(content)
        await done(git.add(path, ["."]))
        await done(git.commit(path, content, *AUTHOR))
    await done(git.push(one, USER, PASSWORD))
    told["rejected"] = await attempt(git.push, two, USER, PASSWORD)
    told["diverged"] = await attempt(git.pull, two, USER, PASSWORD)
    return told


@scenario
async def branches(daytona: Any) -> dict[str, Any]:
    git = await git_of(daytona)
    path = str(work / "one")
    before = (await done(git.branches(path))).branches
    await done(git.create_branch(path, "side"))
    both = (await done(git.branches(path))).branches
    current = (await done(git.status(path))).current_branch
    await done(git.checkout_branch(path, "main"))
    await done(git.delete_branch(path, "side"))
    return {
        "before": before,
        "both": both,
        "created": current,
        "after": (await done(git.branches(path))).branches,
        "unknown": await attempt(git.checkout_branch, path, "nope"),
        "taken": await attempt(git.create_branch, path, "main"),
        "current": await attempt(git.delete_branch, path, "main"),
        "nowhere": await attempt(git.status, str(work / "none")),
    }


@scenario
async def files(daytona: Any) -> dict[str, Any]:
    git = await git_of(daytona)
    path = work / "one"
    (path / "new").write_text("new")
    (path / "a.txt").write_text("edited")
    await done(git.add(str(path), ["new"]))
    status = await done(git.status(str(path)))
    return {
        "states": {
            each.name: [
                str(getattr(word, "value", word))
                for word in (each.staging, each.worktree)
            ]
            for each in status.file_status
        },
        "unknown": await attempt(git.add, str(path), ["nope"]),
        "dirty": await dirty(git, path),
    }


async def dirty(git: Any, path: Path) -> dict[str, Any]:
    await done(git.commit(str(path), "new", *AUTHOR))
    return await attempt(git.commit, str(path), "nothing", *AUTHOR)


@scenario
async def newest(daytona: Any) -> dict[str, Any]:
    """Whatever the first client does not know."""
    if not await is_newest(daytona):
        return {}
    git = await git_of(daytona)
    path = work / "made"
    await done(git.init(str(path), initial_branch="trunk"))
    (path / "x").write_text("1")
    await done(git.add(str(path), ["."]))
    await done(git.commit(str(path), "first", *AUTHOR))
    (path / "x").write_text("2")
    await done(git.restore(str(path), ["x"]))
    restored = (path / "x").read_text()
    await done(git.commit(str(path), "second", *AUTHOR, allow_empty=True))
    await done(git.reset(str(path), mode="hard", target="HEAD~1"))
    await done(git.remote_add(str(path), "up", REMOTE))
    await done(git.configure_user("Ada", "ada@example.test"))
    await done(git.set_config("a.b", "c", scope="local", path=str(path)))
    told: dict[str, Any] = {
        "branch": (await done(git.branches(str(path)))).current,
        "restored": restored,
        "remotes": [each.name for each in (await done(git.remotes(str(path)))).remotes],
        "remote": await done(git.remote_get(str(path), "up")),
        "none": await done(git.remote_get(str(path), "nobody")),
        "user": await done(git.get_config("user.name")),
        "value": await done(git.get_config("a.b", scope="local", path=str(path))),
        "unset": await done(git.get_config("not.set")),
        "again": await attempt(git.init, str(path)),
        "mode": await attempt(git.reset, str(path), mode="wild"),
    }
    host = REMOTE.split("/")[2]
    await done(git.dangerously_authenticate(USER, PASSWORD, host=host, protocol="http"))
    await done(git.clone(REMOTE, str(work / "three"), depth=1))
    told["authenticated"] = (work / "three/a.txt").exists()
    return told


async def asynchronous(config: Any) -> None:
    async with package.AsyncDaytona(config) as daytona:
        await tell_all(daytona)


if __name__ == "__main__":
    config = package.DaytonaConfig(
        api_key=given["key"], api_url=given["api"], target="local"
    )
    if sys.argv[1] == "async":
        asyncio.run(asynchronous(config))
    else:
        run_without_loop(tell_all(package.Daytona(config)))
