"""Every string of every request about git: none is taken for an option or a program."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import pytest

from tests.git.conftest import AUTHOR, Git

OPENAPI = Path(__file__).parents[1] / "contract/openapi.json"
TELLING = "/git/"
BASE: dict[str, object] = {
    **AUTHOR,
    "branch": "main",
    "files": ["a.txt"],
    "key": "core.abbrev",
    "message": "m",
    "name": "x",
    "revision": "main",
    "revisions": ["main"],
    "upstream": "main",
    "value": "12",
    "scope": "local",
    "from": "main",
    "file": "a.txt",
    "username": "u",
    "password": "p",
    "host": "127.0.0.1",
    "protocol": "http",
}
"""What makes sense for a field, so that the one that does not is what is looked at."""


class Field(NamedTuple):
    """One string of one request."""

    method: str
    route: str
    name: str
    is_list: bool
    in_body: bool
    required: tuple[str, ...]


def fields() -> Iterator[Field]:
    """Give every string that requests about git may have."""
    document = json.loads(OPENAPI.read_text())
    for route, methods in document["paths"].items():
        if not route.startswith(TELLING):
            continue
        for method, told in methods.items():
            yield from _of(document, method.upper(), route, told)


def _of(document: Any, method: str, route: str, told: Any) -> Iterator[Field]:
    parameters = [each for each in told.get("parameters", []) if each["in"] == "query"]
    needed = tuple(each["name"] for each in parameters if each.get("required"))
    for each in parameters:
        if "string" in json.dumps(each["schema"]):
            yield Field(method, route, each["name"], False, False, needed)
    content = told.get("requestBody", {}).get("content", {})
    for form in content.values():
        text = json.dumps(form["schema"])
        reference = text.partition("#/components/schemas/")[2].partition('"')[0]
        shape = document["components"]["schemas"][reference]
        for name, kind in shape["properties"].items():
            if "string" in json.dumps(kind) and "enum" not in kind:
                is_list = "array" in json.dumps(kind)
                wanted = tuple(shape.get("required", ()))
                yield Field(method, route, name, is_list, True, wanted)


def attempt(git: Git, repo: Path, field: Field, word: str) -> int:
    """Make the request with one word in its field; return the status."""
    usual: dict[str, object] = {
        **BASE,
        "path": str(repo),
        "url": str(repo),
        "worktree": str(repo.parent / "linked"),
    }
    if "clone" in field.route or "init" in field.route:
        usual["path"] = str(repo.parent / "target")
    sent: dict[str, object] = {name: usual.get(name, "x") for name in field.required}
    sent[field.name] = [word] if field.is_list else word
    # Checkpoints are told the directory beside the body.
    route = field.route.removeprefix(TELLING).replace("{checkpointId}", "0" * 16)
    if field.in_body:
        beside = f"?path={quote(str(repo))}" if "checkpoint" in route else ""
        return git.ask(field.method, route + beside, sent).status
    return git.ask(field.method, f"{route}?{urlencode(sent)}").status


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "form",
    ["--output={mark}", "--upload-pack=touch {mark};", "ext::sh -c touch% {mark}"],
)
def test_no_string_of_any_request_is_an_option_or_a_program(
    git: Git, repo: Path, form: str
) -> None:
    mark = repo.parent / "mark"
    word = form.format(mark=mark)
    seen = [*fields()]

    failed = [field for field in seen if attempt(git, repo, field, word) >= 500]

    assert {field.route for field in seen} >= {
        "/git/clone",
        "/git/rebase",
        "/git/blame",
    }
    assert len(seen) > 90
    assert failed == []
    assert not mark.exists()
    assert not [each for each in repo.parent.rglob("*") if each.name == "mark"]
