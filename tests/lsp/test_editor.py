"""The routes for editors: their shapes, and edits that are made whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, WSMsgType

from agent.errors import InvalidRequestError
from agent.lsp.editor.edits import edited
from agent.lsp.editor.models import TextEdit
from agent.lsp.models import Position, Range
from tests.clients.environments import python_with
from tests.lsp.conftest import Desk, failure
from tests.support.agent import StartAgent
from tests.support.processes import alive, children, wait_gone

AT = {"line": 0, "character": 0}


def span(start: tuple[int, int], end: tuple[int, int]) -> dict[str, Any]:
    """Return a range as servers write it."""
    (line, character), (last, after) = start, end
    return {
        "start": {"line": line, "character": character},
        "end": {"line": last, "character": after},
    }


def text_edit(start: tuple[int, int], end: tuple[int, int], text: str) -> TextEdit:
    return TextEdit(
        range=Range(
            start=Position(line=start[0], character=start[1]),
            end=Position(line=end[0], character=end[1]),
        ),
        new_text=text,
    )


@pytest.mark.parametrize(
    ("text", "edits", "wanted"),
    [
        ("abc", [((0, 1), (0, 2), "X")], "aXc"),
        ("a\r\nb\r\n", [((1, 0), (1, 1), "X")], "a\r\nX\r\n"),
        ("a\rb", [((1, 0), (1, 1), "X")], "a\rX"),
        ("😀b", [((0, 2), (0, 3), "X")], "😀X"),
        ("éb", [((0, 1), (0, 2), "X")], "éX"),
        ("abc", [((0, 0), (0, 0), "1"), ((0, 0), (0, 0), "2")], "12abc"),
        ("abc", [((0, 2), (0, 3), "Z"), ((0, 0), (0, 1), "A")], "AbZ"),
        ("a\nb", [((0, 99), (0, 99), "!")], "a!\nb"),
        ("a\nb", [((99, 0), (99, 0), "!")], "a\nb!"),
        ("a\nb\n", [((0, 0), (2, 0), "")], ""),
        ("", [((0, 0), (0, 0), "new")], "new"),
    ],
)
def test_edits_count_in_utf16_and_are_all_about_the_text_before(
    text: str, edits: list[tuple[Any, Any, str]], wanted: str
) -> None:
    assert edited(text, [text_edit(*each) for each in edits]) == wanted


def test_edits_that_overlap_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="overlap"):
        edited("abcd", [text_edit((0, 0), (0, 3), "x"), text_edit((0, 2), (0, 4), "y")])


def answering(desk: Desk, **answers: object) -> str:
    """Start a server that gives these answers; return a document's URI."""
    uri = desk.write("a.py", "old = 1\n")
    desk.behave(
        capabilities={"completionProvider": {}, "diagnosticProvider": {}},
        answers={
            "textDocument/diagnostic": {"kind": "full", "items": []},
            **{name.replace("__", "/"): answer for name, answer in answers.items()},
        },
    )
    desk.start()
    return uri


@pytest.mark.parametrize(
    ("told", "contents"),
    [
        (None, None),
        ({"contents": "x"}, {"kind": "plaintext", "value": "x"}),
        (
            {"contents": {"kind": "markdown", "value": "*x*"}},
            {"kind": "markdown", "value": "*x*"},
        ),
        (
            {"contents": ["x", {"language": "py", "value": "y"}]},
            {"kind": "markdown", "value": "x\n\n```py\ny\n```"},
        ),
    ],
)
def test_hover_is_one_text_whatever_its_form(
    desk: Desk, told: object, contents: object
) -> None:
    uri = answering(desk, textDocument__hover=told)

    answer = desk.post("hover", uri=uri, position=AT)

    assert answer.status == 200
    assert answer.json()["contents"] == contents


@pytest.mark.parametrize(
    ("route", "method"),
    [
        ("definition", "definition"),
        ("type-definition", "typeDefinition"),
        ("implementation", "implementation"),
        ("references", "references"),
    ],
)
def test_places_are_a_list_whatever_their_form(
    desk: Desk, route: str, method: str
) -> None:
    place = {"uri": "file:///x.py", "range": span((0, 0), (0, 3))}
    uri = answering(desk, **{f"textDocument__{method}": place})

    answer = desk.post(route, uri=uri, position=AT)

    assert answer.json() == [place]
    assert desk.heard(f"textDocument/{method}")[0]["params"]["position"] == AT


def test_what_a_server_cannot_do_is_400_and_says_which(desk: Desk) -> None:
    uri = answering(desk)

    told = failure(desk.post("hover", uri=uri, position=AT))

    assert told == (400, "BAD_REQUEST", "ty cannot do textDocument/hover")


def test_signatures_and_calls_have_their_shapes(desk: Desk) -> None:
    item = {
        "name": "f",
        "kind": 12,
        "uri": "file:///x.py",
        "range": span((0, 0), (1, 0)),
        "selectionRange": span((0, 4), (0, 5)),
    }
    call = {"from": item, "to": item, "fromRanges": [span((5, 0), (5, 1))]}
    uri = answering(
        desk,
        textDocument__signatureHelp={
            "signatures": [
                {"label": "f(a, b)", "parameters": [{"label": [2, 3]}, {"label": "b"}]}
            ],
            "activeParameter": 1,
        },
        textDocument__prepareCallHierarchy=[item],
        callHierarchy__incomingCalls=[call],
        callHierarchy__outgoingCalls=None,
    )

    help_ = desk.post("signature-help", uri=uri, position=AT).json()
    calls = desk.post("call-hierarchy", uri=uri, position=AT).json()

    assert [each["label"] for each in help_["signatures"][0]["parameters"]] == [
        "a",
        "b",
    ]
    assert (help_["activeSignature"], help_["activeParameter"]) == (0, 1)
    assert (calls["name"], calls["outgoing"]) == ("f", [])
    assert calls["incoming"][0]["ranges"] == [span((5, 0), (5, 1))]


def renaming(desk: Desk) -> tuple[str, Path, Path]:
    """Start a server that would rename in two files and move one of them."""
    one, other = desk.root / "a.py", desk.root / "b.py"
    other.write_text("print(old)\n")
    changes = [
        {
            "textDocument": {"uri": one.as_uri(), "version": None},
            "edits": [{"range": span((0, 0), (0, 3)), "newText": "new"}],
        },
        {
            "textDocument": {"uri": other.as_uri(), "version": None},
            "edits": [{"range": span((0, 6), (0, 9)), "newText": "new"}],
        },
        {
            "kind": "rename",
            "oldUri": other.as_uri(),
            "newUri": (desk.root / "c.py").as_uri(),
        },
    ]
    uri = answering(desk, textDocument__rename={"documentChanges": changes})
    return uri, one, other


def test_a_rename_is_proposed_and_changes_nothing(desk: Desk) -> None:
    uri, one, other = renaming(desk)

    told = desk.post("rename", uri=uri, position=AT, newName="new").json()

    assert [each["kind"] for each in told["changes"]] == ["edit", "edit", "rename"]
    assert (told["applied"], told["id"], told["files"]) == (False, None, [])
    assert (one.read_text(), other.read_text()) == ("old = 1\n", "print(old)\n")


def test_a_rename_is_made_whole_told_by_diffs_and_can_be_undone(desk: Desk) -> None:
    uri, one, other = renaming(desk)
    moved = desk.root / "c.py"

    told = desk.post("rename", uri=uri, position=AT, newName="new", apply=True).json()

    assert told["applied"] is True
    assert one.read_text() == "new = 1\n"
    assert moved.read_text() == "print(new)\n"
    assert not other.exists()
    assert any("+new = 1" in each["diff"] for each in told["files"])
    assert told["diagnostics"] == {"added": [], "removed": [], "isFresh": True}
    undone = desk.agent.request("POST", f"/files/edit/{told['id']}/undo")
    assert undone.status == 200
    assert (one.read_text(), other.read_text()) == ("old = 1\n", "print(old)\n")
    assert not moved.exists()


def test_a_rename_that_cannot_be_made_whole_is_not_made_at_all(desk: Desk) -> None:
    uri, one, other = renaming(desk)
    (desk.root / "c.py").write_text("in the way")

    answer = desk.post("rename", uri=uri, position=AT, newName="new", apply=True)

    assert answer.status == 409
    assert (one.read_text(), other.read_text()) == ("old = 1\n", "print(old)\n")


def test_an_edit_of_a_text_that_is_not_on_the_disk_is_refused(desk: Desk) -> None:
    uri, one, _ = renaming(desk)
    assert desk.post("did-change", uri=uri, text="old = 2\n").json() == {"version": 1}

    answer = desk.post("rename", uri=uri, position=AT, newName="new", apply=True)

    assert answer.status == 409
    assert one.read_text() == "old = 1\n"


def test_formatting_is_proposed_and_made(desk: Desk) -> None:
    edits = [{"range": span((0, 3), (0, 6)), "newText": "="}]
    uri = answering(desk, textDocument__formatting=edits)

    proposed = desk.post("formatting", uri=uri, tabSize=2).json()
    made = desk.post("formatting", uri=uri, apply=True).json()

    assert proposed["changes"][0]["edits"][0]["newText"] == "="
    assert made["applied"] is True
    assert (desk.root / "a.py").read_text() == "old=1\n"
    options = desk.heard("textDocument/formatting")[0]["params"]["options"]
    assert options == {"tabSize": 2, "insertSpaces": True}


def test_the_action_that_is_named_is_done_and_no_other(desk: Desk) -> None:
    path = (desk.root / "a.py").as_uri()
    insert = {"range": span((0, 0), (0, 0)), "newText": "# x\n"}
    actions = [
        {"title": "other", "command": {"command": "c"}},
        {"title": "add", "kind": "quickfix", "edit": {"changes": {path: [insert]}}},
    ]
    uri = answering(desk, textDocument__codeAction=actions)
    where = span((0, 0), (0, 1))

    listed = desk.post("code-actions", uri=uri, range=where).json()["actions"]
    unnamed = desk.post("code-actions", uri=uri, range=where, apply=True)
    missing = desk.post("code-actions", uri=uri, range=where, apply=True, title="no")
    command = desk.post("code-actions", uri=uri, range=where, apply=True, title="other")
    done = desk.post("code-actions", uri=uri, range=where, apply=True, title="add")

    assert [(each["title"], each["edit"] is None) for each in listed] == [
        ("other", True),
        ("add", False),
    ]
    assert [each.status for each in (unnamed, missing, command)] == [400] * 3
    assert done.json()["actions"][0]["edit"]["applied"] is True
    assert (desk.root / "a.py").read_text() == "# x\nold = 1\n"


def test_an_unsaved_text_stands_until_the_document_is_opened_or_closed(
    desk: Desk,
) -> None:
    uri = desk.write("a.py", "on disk")
    desk.start()

    assert desk.post("did-change", uri=uri, text="unsaved").json() == {"version": 1}
    assert desk.labels(uri) == ["unsaved"]
    assert desk.post("did-change", uri=uri, text="again").json() == {"version": 2}
    assert desk.labels(uri) == ["again"]
    assert desk.post("did-open", uri=uri).status == 200
    assert desk.labels(uri) == ["on disk"]
    desk.post("did-change", uri=uri, text="unsaved")
    desk.post("did-close", uri=uri)
    assert desk.labels(uri) == ["on disk"]


def test_a_text_of_a_file_that_does_not_exist_yet_is_served(desk: Desk) -> None:
    desk.start()
    uri = "file://proj/new.py"

    assert desk.post("did-change", uri=uri, text="new").status == 200
    assert desk.labels(uri) == ["new"]


def test_status_tells_what_runs_and_what_it_costs(desk: Desk) -> None:
    def status() -> list[dict[str, Any]]:
        answer = desk.agent.request("GET", "/lsp/status")
        listed: list[dict[str, Any]] = answer.json()["servers"]
        return listed

    assert status() == []
    uri = desk.write("a.py", "x")
    bad = desk.write("bad.py", "do: crash")
    desk.start()
    desk.labels(uri)
    [told] = status()
    assert (told["server"], told["state"], told["documents"]) == ("ty", "ready", 1)
    assert told["pid"] in desk.pids()
    assert told["memoryBytes"] > 1_000_000
    assert told["project"] == str(desk.root)
    desk.complete(bad)
    [told] = status()
    assert (told["state"], told["pid"]) == ("crashed", None)
    assert "exit code 3" in told["lastError"]
    desk.labels(uri)
    [told] = status()
    assert (told["state"], told["restarts"]) == ("ready", 1)


async def test_an_editor_has_a_server_of_its_own_over_a_websocket(desk: Desk) -> None:
    url = f"{desk.agent.url}/lsp/connect?languageId=python&pathToProject=proj"
    async with ClientSession(headers=desk.agent.auth) as session:
        async with session.ws_connect(url) as socket:
            params = {"processId": 999999, "rootUri": desk.root.as_uri()}
            asked = {"jsonrpc": "2.0", "id": 1, "method": "initialize"}
            await socket.send_str(json.dumps({**asked, "params": params}))
            answer = await socket.receive(timeout=8)
            assert answer.type is WSMsgType.TEXT
            assert json.loads(answer.data)["id"] == 1
            [pid] = desk.pids()
        assert wait_gone(pid)
        missing = url.replace("proj", "nowhere")
        async with session.get(missing) as plain:
            assert plain.status == 400
    [heard] = desk.heard("initialize")
    assert heard["params"]["processId"] == desk.agent.api_pid()
    assert heard["params"]["rootUri"] == desk.root.as_uri()


async def test_an_editor_is_told_of_its_servers_end(desk: Desk) -> None:
    url = f"{desk.agent.url}/lsp/connect?languageId=python&pathToProject=proj"
    async with (
        ClientSession(headers=desk.agent.auth) as session,
        session.ws_connect(url) as socket,
    ):
        await socket.send_str('{"jsonrpc":"2.0","method":"exit"}')
        message = await socket.receive(timeout=8)

    assert message.type is WSMsgType.CLOSE
    assert message.data == 1000
    assert "exit code 0" in str(message.extra)


@pytest.mark.clients
@pytest.mark.timeout(120)
def test_a_real_server_renames_tells_what_is_wrong_and_what_it_mended(
    start_agent: StartAgent,
) -> None:
    path = os.pathsep.join([str(python_with("ty", "0.0.104").parent), os.defpath])
    agent = start_agent(env={"PATH": path})
    (agent.work_dir / "proj").mkdir()
    desk = Desk(agent)
    lib = desk.write("lib.py", "def helper(x: int) -> int:\n    return x\n")
    use = desk.write("use.py", "from lib import helper\nhelper(1)\nhelper('a')\n")
    desk.start()

    wrong = desk.post("diagnostics", uri=use).json()
    everywhere = desk.post("semantic", 30).json()
    at = {"line": 1, "character": 2}
    found = desk.post("definition", uri=use, position=at).json()
    used = desk.post("references", uri=lib, position={"line": 0, "character": 5}).json()
    about = desk.post("hover", uri=use, position=at).json()
    renamed = desk.post(
        "rename", uri=use, position=at, newName="assist", apply=True
    ).json()

    assert wrong["isFresh"] is True
    assert len(wrong["items"]) == 1
    assert wrong["items"][0]["range"]["start"]["line"] == 2
    assert [each["uri"] for each in everywhere["items"]] == [
        (desk.root / "use.py").as_uri()
    ]
    assert found[0]["uri"] == (desk.root / "lib.py").as_uri()
    assert {each["uri"].rpartition("/")[2] for each in used} == {"lib.py", "use.py"}
    assert "helper" in about["contents"]["value"]
    assert renamed["applied"] is True
    assert "helper" not in (desk.root / "use.py").read_text()
    assert "def assist" in (desk.root / "lib.py").read_text()
    assert renamed["diagnostics"]["isFresh"] is True
    agent.stop()
    assert not [pid for pid in children(agent.pid) if alive(pid)]
