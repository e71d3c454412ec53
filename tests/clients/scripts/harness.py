"""Runs a client's scenarios and tells what came of each as one JSON object."""

import json
import sys
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

Scenario = Callable[..., Coroutine[Any, Any, dict[str, Any]]]

given: dict[str, str] = json.load(sys.stdin)
"""Where the agent is, its key, and directories: on its side, and on ours."""

scenarios: list[Scenario] = []


def scenario(function: Scenario) -> Scenario:
    """Add a scenario; its name is what the outcome is told under."""
    scenarios.append(function)
    return function


async def tell_all(*arguments: object) -> None:
    """Run all scenarios in their order; one that raises does not stop the others."""
    outcomes: dict[str, Any] = {}
    for each in scenarios:
        try:
            outcomes[each.__name__] = await each(*arguments)
        except Exception:  # noqa: BLE001 - the test shows it
            outcomes[each.__name__] = {"raised": traceback.format_exc()}
    sys.stdout.write("\n" + json.dumps(outcomes))


async def failure(attempt: Awaitable[object]) -> dict[str, Any]:
    """Return what the client makes of a call that must fail."""
    try:
        await attempt
    except Exception as error:  # noqa: BLE001 - which one it is, is the question
        return {
            "kinds": [kind.__name__ for kind in type(error).__mro__],
            "status": getattr(error, "status_code", None),
            "code": getattr(error, "code", None),
            "message": str(error),
        }
    raise AssertionError("it did not fail")


def run_without_loop(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never waits, as code around a synchronous client is."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("something waited")
