"""Callers name files in many ways, and change them behind the server's back."""

import os
import shutil
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.lsp.conftest import Desk, failure

ODD_NAMES = [
    "plain.py",
    "with space.py",
    "a#b.py",
    "50%.py",
    "a%20b.py",
    "ümläut.py",
    "日本.py",
    "q?x=1.py",
    "a+b&c;d.py",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_document_is_found_under_every_spelling(desk: Desk, name: str) -> None:
    desk.write(name, f"text of {name}")
    path = f"{desk.root}/{name}"
    desk.start()

    for uri in (
        f"file://proj/{name}",
        f"file://{name}",
        f"file://{path}",
        f"file://localhost{path}",
        f"file:{path}",
        path,
        f"proj/{name}",
        f"file://{quote(path)}",
        f"file://proj/{quote(name)}",
        Path(path).as_uri(),
    ):
        assert desk.labels(uri) == [f"text of {name}"], uri

    [opened] = desk.heard("textDocument/didOpen")
    assert opened["params"]["textDocument"]["uri"].isascii()
    assert " " not in opened["params"]["textDocument"]["uri"]


def test_what_is_literally_there_wins_over_what_it_decodes_to(desk: Desk) -> None:
    desk.write("a%20b.py", "literal")
    desk.write("a b.py", "decoded")
    desk.start()

    assert desk.labels("file://proj/a%20b.py") == ["literal"]
    (desk.root / "a%20b.py").unlink()
    assert desk.labels("file://proj/a%20b.py") == ["decoded"]


def test_a_relative_path_is_the_work_dirs_first_and_then_the_projects(
    desk: Desk,
) -> None:
    desk.write("a.py", "of the project")
    desk.start()

    assert desk.labels("file://a.py") == ["of the project"]
    (desk.agent.work_dir / "a.py").write_text("of the work dir")
    assert desk.labels("file://a.py") == ["of the work dir"]


@pytest.mark.parametrize("uri", ["https://x/a.py", "untitled:a", "git://x"])
def test_other_schemes_are_refused(desk: Desk, uri: str) -> None:
    desk.start()

    status, code, message = failure(desk.complete(uri))

    assert (status, code) == (400, "BAD_REQUEST")
    assert "only file URIs" in message


def test_a_missing_file_is_400_and_names_the_work_dirs_form(desk: Desk) -> None:
    desk.start()

    told = failure(desk.post("did-open", uri="file://proj/no.py"))

    assert told == (
        400,
        "BAD_REQUEST",
        f"file not found: {desk.agent.work_dir}/proj/no.py",
    )


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_what_is_no_file_is_400_at_once(desk: Desk, kind: str) -> None:
    path = desk.root / "x.py"
    path.mkdir() if kind == "directory" else os.mkfifo(path)
    desk.start()

    assert failure(desk.complete("file://proj/x.py"))[:2] == (400, "BAD_REQUEST")


def test_an_edit_on_disk_is_seen_by_the_next_question(desk: Desk) -> None:
    uri = desk.write("a.py", "first")
    desk.start()
    desk.post("did-open", uri=uri)

    assert desk.labels(uri) == ["first"]
    desk.write("a.py", "other")
    assert desk.labels(uri) == ["other"]
    assert desk.labels(uri) == ["other"]

    [change] = desk.heard("textDocument/didChange")
    assert change["params"]["textDocument"]["version"] == 2
    assert len(desk.heard("textDocument/didOpen")) == 1


def test_an_edit_of_another_open_document_is_seen_too(desk: Desk) -> None:
    one, other = desk.write("one.py", "1"), desk.write("other.py", "2")
    desk.start()
    desk.post("did-open", uri=other)

    desk.write("other.py", "3")
    desk.labels(one)

    [change] = desk.heard("textDocument/didChange")
    assert change["params"]["contentChanges"] == [{"text": "3"}]


def test_opening_again_is_looking_again(desk: Desk) -> None:
    uri = desk.write("a.py", "first")
    desk.start()

    for text in ("first", "first", "second"):
        desk.write("a.py", text)
        assert desk.post("did-open", uri=uri).status == 200
    # The question after them, so that they have been heard.
    assert desk.labels(uri) == ["second"]

    assert len(desk.heard("textDocument/didOpen")) == 1
    assert len(desk.heard("textDocument/didChange")) == 1


def test_a_deleted_document_is_closed_and_may_come_back(desk: Desk) -> None:
    uri = desk.write("a.py", "first")
    desk.start()
    desk.labels(uri)

    (desk.root / "a.py").unlink()
    assert failure(desk.complete(uri))[:2] == (400, "BAD_REQUEST")
    desk.write("a.py", "again")
    assert desk.labels(uri) == ["again"]

    assert len(desk.heard("textDocument/didClose")) == 1


def test_closing_what_is_not_open_is_fine(desk: Desk) -> None:
    uri = desk.write("a.py", "x")
    desk.start()

    assert desk.post("did-close", uri=uri).status == 200
    desk.post("did-open", uri=uri)
    assert desk.post("did-close", uri=uri).status == 200
    assert desk.post("did-close", uri="file://proj/never.py").status == 200
    # The question after them, so that they have been heard.
    desk.labels(uri)
    assert len(desk.heard("textDocument/didClose")) == 1


def test_a_project_that_is_removed_while_open(desk: Desk) -> None:
    uri = desk.write("a.py", "x")
    desk.start()
    desk.labels(uri)

    shutil.rmtree(desk.root)

    assert failure(desk.complete(uri))[:2] == (400, "BAD_REQUEST")
    assert desk.post("stop").status == 200
    assert desk.pids() == set()
    told = failure(desk.post("start"))
    assert told[:2] == (400, "BAD_REQUEST")
    assert "not a directory" in told[2]


def test_a_project_behind_a_link_is_the_same_project(desk: Desk) -> None:
    uri = desk.write("a.py", "x")
    desk.start()
    desk.labels(uri)
    link = desk.agent.work_dir / "link"
    link.symlink_to("proj")

    desk.project = "link"
    desk.start()

    assert desk.labels("file://link/a.py") == ["x"]
    assert len(desk.heard("initialize")) == 1
    assert len(desk.heard("textDocument/didOpen")) == 1


def test_bytes_that_are_no_utf8_are_replaced(desk: Desk) -> None:
    (desk.root / "a.py").write_bytes(b"a\xffb")
    desk.start()

    assert desk.labels("file://proj/a.py") == ["a\ufffdb"]


@pytest.mark.parametrize(
    ("line", "character", "status"),
    [(0, 0, 200), (0.0, 3.0, 200), (-1, 0, 400), (0, 1.5, 400), ("0", 0, 400)],
)
def test_positions_are_whole_numbers_from_zero(
    desk: Desk, line: object, character: object, status: int
) -> None:
    uri = desk.write("a.py", "x")
    desk.start()

    answer = desk.complete(uri, line, character)

    assert answer.status == status
    if status == 400:
        assert failure(answer)[1] == "INVALID_REQUEST_BODY"
    else:
        position = desk.heard("textDocument/completion")[0]["params"]["position"]
        assert position == {
            "line": int(str(line)[0]),
            "character": int(str(character)[0]),
        }


@pytest.mark.parametrize("missing", ["languageId", "pathToProject", "uri", "position"])
@pytest.mark.parametrize("value", [None, "", 7])
def test_a_body_without_a_field_is_refused(
    desk: Desk, missing: str, value: object
) -> None:
    body = {**desk.base, "uri": "a.py", "position": {"line": 0, "character": 0}}
    body[missing] = value

    answer = desk.agent.request("POST", "/lsp/completions", body)

    assert failure(answer)[:2] == (400, "INVALID_REQUEST_BODY")


@pytest.mark.parametrize("route", ["workspacesymbols", "workspace-symbols"])
def test_a_missing_parameter_is_refused(desk: Desk, route: str) -> None:
    for query in ("query=a&languageId=python", "languageId=python&pathToProject=proj"):
        answer = desk.agent.request("GET", f"/lsp/{route}?{query}")
        assert failure(answer)[:2] == (400, "BAD_REQUEST")
    empty = f"/lsp/{route}?query=&languageId=python&pathToProject=proj"
    assert failure(desk.agent.request("GET", empty))[:2] == (400, "BAD_REQUEST")


def test_a_language_that_is_not_known_is_refused_with_those_that_are(
    desk: Desk,
) -> None:
    desk.language = "cobol"

    status, code, message = failure(desk.post("start"))

    assert (status, code) == (400, "BAD_REQUEST")
    assert "'cobol'" in message
    assert "typescript" in message


def test_a_language_without_a_server_says_how_to_get_one(desk: Desk) -> None:
    desk.language = "yaml"

    status, code, message = failure(desk.post("start"))

    assert (status, code) == (500, "INTERNAL_SERVER_ERROR")
    assert "yaml-language-server" in message
    assert "npm install" in message
