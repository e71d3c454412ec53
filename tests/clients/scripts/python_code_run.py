"""Drives `code_run` of PyPI `daytona` 0.226.1; the argument says: sync or async."""

# mypy: disable-error-code="import-not-found, untyped-decorator, no-any-return"

import asyncio
import base64
import inspect
import sys
from typing import Any

from charts import EVERY_CHART
from daytona import (
    AsyncDaytona,
    CreateSandboxFromSnapshotParams,
    Daytona,
    DaytonaConfig,
)
from daytona.common.process import CodeRunParams
from harness import failure, given, run_without_loop, scenario, tell_all


async def done(value: Any) -> Any:
    """Return what a call of either client gives."""
    return await value if inspect.isawaitable(value) else value


async def process_of(daytona: Any, language: str) -> Any:
    """Return the process interface of the sandbox, made for a language."""
    params = CreateSandboxFromSnapshotParams(language=language)
    return (await done(daytona.create(params))).process


def plain(answer: Any) -> list[Any]:
    return [answer.exit_code, answer.result]


@scenario
async def python(daytona: Any) -> dict[str, Any]:
    process = await process_of(daytona, "python")
    params = CodeRunParams(argv=["a b", "$X"], env={"K": "x; echo $HOME"})
    show = "import os, sys; print(sys.argv, os.environ['K'])"
    return {
        "printed": plain(await done(process.code_run("print(6 * 7)"))),
        "given": plain(await done(process.code_run(show, params))),
        "failed": plain(await done(process.code_run("import sys; sys.exit(3)"))),
        "input": plain(await done(process.code_run("input()"))),
        "timeout": await failure(
            done_later(process.code_run, "import time; time.sleep(60)", timeout=1)
        ),
        "empty": await failure(done_later(process.code_run, "")),
    }


async def done_later(function: Any, *arguments: Any, **named: Any) -> Any:
    return await done(function(*arguments, **named))


@scenario
async def charts(daytona: Any) -> dict[str, Any]:
    process = await process_of(daytona, "python")
    answer = await done(process.code_run(EVERY_CHART))
    pictures = [base64.b64decode(each.png) for each in answer.artifacts.charts]
    return {
        "result": plain(answer),
        "stdout": answer.artifacts.stdout,
        "classes": [type(each).__name__ for each in answer.artifacts.charts],
        "titles": [each.title for each in answer.artifacts.charts],
        "pictures": [each.startswith(b"\x89PNG") for each in pictures],
        "charts": [
            {k: v for k, v in each.to_dict().items() if k != "png"}
            for each in answer.artifacts.charts
        ],
    }


@scenario
async def others(daytona: Any) -> dict[str, Any]:
    params = CodeRunParams(argv=["a b"], env={"K": "v"})
    told = {}
    for language, code in (
        ("javascript", "console.log(process.argv.slice(1), process.env.K)"),
        (
            "typescript",
            "const k: any = process.env.K; console.log(process.argv.slice(1), k)",
        ),
    ):
        process = await process_of(daytona, language)
        told[language] = plain(await done(process.code_run(code, params)))
    return told


def config() -> Any:
    return DaytonaConfig(api_key=given["key"], api_url=given["api"], target="local")


async def tell_async() -> None:
    async with AsyncDaytona(config()) as daytona:
        await tell_all(daytona)


if __name__ == "__main__":
    if sys.argv[1] == "async":
        asyncio.run(tell_async())
    else:
        run_without_loop(tell_all(Daytona(config())))
