"""Drives `code_interpreter` of PyPI `daytona` 0.226.1; the argument says: sync or async."""

# mypy: disable-error-code="import-not-found, untyped-decorator, no-any-return"

import asyncio
import inspect
import sys
import time
from typing import Any

from daytona import AsyncDaytona, Daytona, DaytonaConfig
from harness import failure, given, run_without_loop, scenario, tell_all


async def done(value: Any) -> Any:
    """Return what a call of either client gives."""
    return await value if inspect.isawaitable(value) else value


async def interpreter_of(daytona: Any) -> Any:
    return (await done(daytona.create())).code_interpreter


def plain(result: Any) -> list[Any]:
    error = result.error
    told = None if error is None else [error.name, error.value, error.traceback]
    return [result.stdout, result.stderr, told]


async def attempt(function: Any, *arguments: Any, **named: Any) -> dict[str, Any]:
    async def call() -> None:
        await done(function(*arguments, **named))

    return await failure(call())


@scenario
async def running(daytona: Any) -> dict[str, Any]:
    run = (await interpreter_of(daytona)).run_code
    heard: list[list[str]] = []
    await done(run("import os, sys\nx = 41"))
    called = await done(
        run(
            "print(x + 1)\nsys.stderr.write('e')\nos.system('echo child')\n1/0",
            on_stdout=lambda message: heard.append(["stdout", message.output]),
            on_stderr=lambda message: heard.append(["stderr", message.output]),
            on_error=lambda error: heard.append(["error", error.name]),
        )
    )
    return {
        "called": plain(called),
        "heard": {
            kind: "".join(text for each, text in heard if each == kind)
            for kind in ("stdout", "stderr", "error")
        },
        "envs": plain(await done(run("print(os.environ['A'])", envs={"A": "b c"}))),
        "after": plain(await done(run("print(os.environ.get('A'))"))),
        "long": len((await done(run("print('é' * 5000000)"))).stdout),
        "error": plain(await done(run("raise ValueError('v' * 10**6)")))[2][0],
        "input": plain(await done(run("input()")))[2][0],
        "exit": plain(await done(run("exit()"))),
        "many": [(await done(run("print(1)"))).stdout for _ in range(100)],
    }


@scenario
async def limits(daytona: Any) -> dict[str, Any]:
    run = (await interpreter_of(daytona)).run_code
    await done(run("import os, time"))
    started = time.monotonic()
    late = await attempt(run, "y = 1\ntime.sleep(60)", timeout=1)
    took_s = time.monotonic() - started
    return {
        "late": late,
        "in time": took_s < 5,
        "kept": plain(await done(run("print(y)"))),
        "died": await attempt(run, "os._exit(3)"),
        "fresh": plain(await done(run("print('y' in globals())"))),
    }


@scenario
async def contexts(daytona: Any) -> dict[str, Any]:
    interpreter = await interpreter_of(daytona)
    before = len(await done(interpreter.list_contexts()))
    context = await done(interpreter.create_context(cwd="/"))
    run = interpreter.run_code
    ran = await done(run("import os\nprint(os.getcwd())", context=context))
    listed = await done(interpreter.list_contexts())
    await done(interpreter.delete_context(context))
    return {
        "before": before,
        "ran": plain(ran),
        "listed": [
            [each.id == context.id, each.cwd, each.active, each.language]
            for each in listed
        ],
        "created": context.created_at is not None,
        "after": len(await done(interpreter.list_contexts())),
        "gone": await attempt(run, "1", context=context),
        "deleted twice": await attempt(interpreter.delete_context, context),
        "bad cwd": await attempt(interpreter.create_context, cwd="/no/such"),
    }


async def asynchronous(config: Any) -> None:
    async with AsyncDaytona(config) as daytona:
        await tell_all(daytona)


if __name__ == "__main__":
    config = DaytonaConfig(api_key=given["key"], api_url=given["api"], target="local")
    if sys.argv[1] == "async":
        asyncio.run(asynchronous(config))
    else:
        run_without_loop(tell_all(Daytona(config)))
