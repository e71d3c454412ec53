"""Drives `code_run` of PyPI `daytona` 0.25.6, which wraps code into a command itself."""

# mypy: disable-error-code="import-not-found, untyped-decorator, no-any-return"

import base64
from typing import Any

from daytona import CreateSandboxFromSnapshotParams, Daytona, DaytonaConfig
from daytona.common.process import CodeRunParams
from harness import failure, given, run_without_loop, scenario, tell_all


def process_of(daytona: Any, language: str) -> Any:
    """Return the process interface of the sandbox, made for a language."""
    return daytona.create(CreateSandboxFromSnapshotParams(language=language)).process


def plain(answer: Any) -> list[Any]:
    return [answer.exit_code, answer.result]


async def called(function: Any, *arguments: Any, **named: Any) -> object:
    return function(*arguments, **named)


@scenario
async def python(daytona: Any) -> dict[str, Any]:
    process = process_of(daytona, "python")
    show = "import os, sys; print(sys.argv[1:], os.environ['K'])"
    params = CodeRunParams(argv=["a", "b"], env={"K": "x; echo $HOME"})
    return {
        "printed": plain(process.code_run("print(6 * 7)")),
        "given": plain(process.code_run(show, params)),
        "failed": process.code_run("import sys; sys.exit(3)").exit_code,
        "timeout": await failure(
            called(process.code_run, "import time; time.sleep(60)", timeout=1)
        ),
    }


@scenario
async def charts(daytona: Any) -> dict[str, Any]:
    code = (
        "import matplotlib.pyplot as plt\n"
        "plt.plot([1, 2], [3, 4], label='up'); plt.title('Line'); plt.show()\n"
        "plt.bar(['a', 'b'], [3, 2.5]); plt.title('Bar'); plt.show()\n"
        "print('drawn')\n"
    )
    answer = process_of(daytona, "python").code_run(code)
    return {
        "result": plain(answer),
        "classes": [type(each).__name__ for each in answer.artifacts.charts],
        "titles": [each.title for each in answer.artifacts.charts],
        "pictures": [
            base64.b64decode(each.png).startswith(b"\x89PNG")
            for each in answer.artifacts.charts
        ],
        "points": answer.artifacts.charts[0].elements[0].points,
    }


if __name__ == "__main__":
    client = Daytona(
        DaytonaConfig(api_key=given["key"], api_url=given["api"], target="local")
    )
    run_without_loop(tell_all(client))
