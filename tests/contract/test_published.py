"""Every operation of the published API is served, or stands on the one list."""

import json
from pathlib import Path
from typing import Any

from agent.app import tables
from agent.web.openapi import document
from agent.web.routes import camel

HERE = Path(__file__).parent
NOT_BUILT_AT_MOST = 33
"""How many operations were missing when the list was last shortened; lower it with it."""


def published() -> dict[str, Any]:
    """Return the operations of the published document by method and path."""
    paths = json.loads((HERE / "published.json").read_text())["paths"]
    return {
        f"{method.upper()} {path}": operation
        for path, operations in paths.items()
        for method, operation in operations.items()
    }


def not_built() -> list[str]:
    return (HERE / "not_built.txt").read_text().splitlines()


def served() -> dict[str, Any]:
    """Return our operations by method and path, path parameters in the wire's names."""
    routes = [route for table in tables() for route in table]
    return {
        f"{method.upper()} {path}": operation
        for path, operations in document(routes, "0")["paths"].items()
        for method, operation in operations.items()
    }


def test_every_published_operation_is_served_or_listed_as_not_built() -> None:
    missing = set(published()) - set(served())

    assert missing == set(not_built())


def test_the_list_only_shrinks_and_names_nothing_twice() -> None:
    listed = not_built()

    assert len(listed) == len(set(listed)) <= NOT_BUILT_AT_MOST


def test_parameters_have_the_published_names_and_places() -> None:
    ours = served()
    for name, operation in published().items():
        if name in ours:
            wanted = {
                (each["name"], each["in"])
                for each in operation.get("parameters", [])
                if each["in"] in {"query", "path"}
            }
            have = {
                (each["name"], each["in"]) for each in ours[name].get("parameters", [])
            }
            # Signed-URL leftovers are the proxy's; they are ignored when they arrive.
            wanted -= {("expires", "query"), ("signature", "query")}
            assert wanted <= have, name


def test_success_has_the_published_status() -> None:
    ours = served()
    for name, operation in published().items():
        if name in ours:
            wanted = {code for code in operation["responses"] if code < "300"}
            # The published document does not tell of upgrades.
            have = {code for code in ours[name]["responses"] if "200" <= code < "300"}
            assert have <= wanted, name


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for operation in served().values()]

    assert len(names) == len(set(names))
    assert camel("update_environment") in names
