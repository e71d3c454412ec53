"""A language server that misbehaves costs its own answer, never the agent's word."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.lsp.conftest import Desk, failure
from tests.support.processes import alive, tree, wait_gone

NOT_INITIALIZED = (400, "LSP_SERVER_NOT_INITIALIZED")


def test_documents_are_served_only_between_start_and_stop(desk: Desk) -> None:
    uri = desk.write("a.py", "x")

    assert failure(desk.complete(uri))[:2] == NOT_INITIALIZED
    assert failure(desk.post("did-open", uri=uri))[:2] == NOT_INITIALIZED
    desk.start()
    assert desk.labels(uri) == ["x"]
    assert desk.post("stop").status == 200
    assert failure(desk.complete(uri))[:2] == NOT_INITIALIZED
    assert desk.post("stop").status == 200
    assert desk.pids() == set()


def test_a_start_of_what_runs_starts_nothing(desk: Desk) -> None:
    desk.start()
    desk.project = "./proj/"
    desk.start()
    desk.project = str(desk.root)
    desk.start()

    assert len(desk.heard("initialize")) == 1


def test_starts_at_once_share_one_server(desk: Desk) -> None:
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: desk.post("start").status, range(8)))

    assert statuses == [200] * 8
    assert len(desk.heard("initialize")) == 1


def test_the_server_is_told_of_the_project_and_can_count_on_little(desk: Desk) -> None:
    desk.start()

    [told] = [each["params"] for each in desk.heard("initialize")]
    root = desk.root.as_uri()
    assert told["rootUri"] == root
    assert told["rootPath"] == str(desk.root)
    assert told["workspaceFolders"] == [{"uri": root, "name": "proj"}]
    document = told["capabilities"]["textDocument"]
    assert document["completion"]["completionItem"]["snippetSupport"] is False
    assert document["documentSymbol"]["hierarchicalDocumentSymbolSupport"] is False
    assert told["capabilities"]["general"]["positionEncodings"] == ["utf-16"]


def test_stop_says_shutdown_without_parameters_then_exit(desk: Desk) -> None:
    desk.start()
    desk.post("stop")

    last = desk.heard()[-2:]
    assert [each["method"] for each in last] == ["shutdown", "exit"]
    assert "params" not in last[0]


@pytest.mark.parametrize("what", ["crash", "kill", "huge", "garbage", "endless"])
def test_a_server_that_breaks_fails_its_question_at_once_and_is_replaced(
    desk: Desk, what: str
) -> None:
    bad, good = desk.write("bad.py", f"do: {what}"), desk.write("good.py", "fine")
    desk.start()
    desk.post("did-open", uri=good)
    began = time.monotonic()

    status, code, message = failure(desk.complete(bad))

    assert (status, code) == (500, "INTERNAL_SERVER_ERROR")
    assert time.monotonic() - began < 1.4
    if what == "crash":
        assert "exit code 3" in message
        assert "fatal: told to" in message
    desk.write("bad.py", "mended")
    assert desk.labels(good) == ["fine"]
    assert len(desk.pids()) == 1
    reopened = desk.heard("textDocument/didOpen")[-2:]
    assert len({each["pid"] for each in reopened}) == 1


@pytest.mark.parametrize(
    ("what", "labels"),
    [
        ("junk", ["after junk"]),
        ("twice", ["first"]),
        ("null", []),
        ("nothing", []),
        ('raw {"items":[{"label":"a\\xff"}]}', ["a\ufffd"]),
        ('raw {"items":[{"label":"n","documentation":"d","kind":null}]}', ["n"]),
    ],
)
def test_odd_answers_are_read_and_the_next_one_too(
    desk: Desk, what: str, labels: list[str]
) -> None:
    odd, good = desk.write("odd.py", f"do: {what}"), desk.write("good.py", "fine")
    desk.start()

    assert desk.labels(odd) == labels
    assert desk.labels(good) == ["fine"]
    assert len(desk.heard("initialize")) == 1


def test_an_error_of_the_server_is_told_on_one_line(desk: Desk) -> None:
    uri = desk.write("a.py", "do: error")
    desk.start()

    assert failure(desk.complete(uri)) == (400, "BAD_REQUEST", "it failed")


def test_no_answer_is_408_and_the_server_is_told_to_stop_and_kept(desk: Desk) -> None:
    uri, good = desk.write("a.py", "do: never"), desk.write("good.py", "fine")
    desk.start()

    assert failure(desk.complete(uri))[:2] == (408, "REQUEST_TIMEOUT")
    assert desk.labels(good) == ["fine"]
    [asked, _] = desk.heard("textDocument/completion")
    [cancelled] = desk.heard("$/cancelRequest")
    assert cancelled["params"]["id"] == asked["id"]
    assert len(desk.heard("initialize")) == 1


def test_a_late_answer_is_nobodys(desk: Desk) -> None:
    uri, good = desk.write("a.py", "do: sleep 1.8"), desk.write("good.py", "fine")
    desk.start()

    assert desk.complete(uri).status == 408
    assert desk.labels(good) == ["fine"]


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("workspace/configuration", {"result": [None, None]}),
        ("client/registerCapability", {"result": None}),
        ("client/unregisterCapability", {"result": None}),
        ("window/workDoneProgress/create", {"result": None}),
        ("window/showMessageRequest", {"result": None}),
        ("workspace/applyEdit", {"result": {"applied": False}}),
        ("no/such", {"error": {"code": -32601, "message": "unknown: no/such"}}),
    ],
)
def test_what_the_server_asks_is_answered(
    desk: Desk, method: str, answer: dict[str, object]
) -> None:
    uri = desk.write("a.py", f"do: ask {method}")
    desk.start()

    assert [json.loads(each) for each in desk.labels(uri)] == [answer]


def test_a_server_that_crashes_again_and_again_waits_for_a_start(desk: Desk) -> None:
    bad, good = desk.write("bad.py", "do: crash"), desk.write("good.py", "fine")
    desk.start()
    for _ in range(4):
        assert failure(desk.complete(bad))[0] == 500

    status, _, message = failure(desk.complete(good))

    assert status == 500
    assert "crashed 4 times" in message
    assert len(desk.heard("initialize")) == 4
    desk.start()
    assert desk.labels(good) == ["fine"]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("crash", ["ty", "exit code 3", "fatal: told to"]),
        ("error", ["ty", "it failed"]),
        ("huge", ["ty", "2147483648 bytes"]),
        ("never", ["ty", "initialize within 3 s"]),
    ],
)
def test_a_start_that_fails_says_why_and_leaves_nothing(
    desk: Desk, how: str, words: list[str]
) -> None:
    desk.behave(initialize=how)
    uri = desk.write("a.py", "x")

    status, code, message = failure(desk.post("start"))

    assert (status, code) == (500, "INTERNAL_SERVER_ERROR")
    for word in words:
        assert word in message
    assert desk.pids() == set()
    assert failure(desk.complete(uri))[:2] == NOT_INITIALIZED


def test_stop_ends_what_the_server_started_and_what_ignores_it(desk: Desk) -> None:
    desk.behave(children=True, ignores=True)
    desk.start()
    [server] = desk.pids()
    family = {server, *tree(server)}
    assert len(family) == 3

    assert desk.post("stop").status == 200

    assert not [pid for pid in family if alive(pid)]


def test_a_crash_ends_what_the_server_started(desk: Desk) -> None:
    desk.behave(children=True)
    uri, good = desk.write("bad.py", "do: crash"), desk.write("good.py", "fine")
    desk.start()
    [server] = desk.pids()
    family = tree(server)

    assert desk.complete(uri).status == 500
    assert desk.labels(good) == ["fine"]

    assert all(map(wait_gone, family))


def test_a_stop_while_it_starts_ends_it(desk: Desk) -> None:
    desk.behave(initialize="never")
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(desk.post, "start")
        while not desk.heard("initialize"):
            time.sleep(0.01)
        stopped = desk.post("stop")

        assert stopped.status == 200
        assert failure(starting.result())[:2] == NOT_INITIALIZED
    assert desk.pids() == set()


def test_a_client_that_leaves_has_its_question_cancelled(desk: Desk) -> None:
    uri, good = desk.write("a.py", "do: never"), desk.write("good.py", "fine")
    desk.start()

    with pytest.raises(TimeoutError):
        desk.post("completions", 0.4, uri=uri, position={"line": 0, "character": 0})
    # Heard before the question that follows is.
    assert desk.labels(good) == ["fine"]

    [cancelled] = desk.heard("$/cancelRequest")
    assert cancelled["params"]["id"] == desk.heard("textDocument/completion")[0]["id"]


def test_fifty_questions_at_once_have_fifty_answers(desk: Desk) -> None:
    uris = [desk.write(f"f{number}.py", f"text {number}") for number in range(10)]
    desk.start()

    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(desk.labels, uris * 5))

    assert found == [[f"text {number}"] for number in range(10)] * 5
    opened = [
        each["params"]["textDocument"]["uri"]
        for each in desk.heard("textDocument/didOpen")
    ]
    assert len(opened) == len(set(opened)) == 10


def test_twenty_thousand_items_arrive(desk: Desk) -> None:
    uri = desk.write("a.py", "do: many 20000")
    desk.start()

    labels = desk.labels(uri)

    assert (len(labels), labels[-1]) == (20000, "name_19999")


def cycle(desk: Desk, times: int) -> None:
    for _ in range(times):
        desk.start()
        assert desk.post("stop").status == 200
    assert len(desk.heard("initialize")) == times
    assert desk.pids() == set()


def test_starts_and_stops_leave_no_process(desk: Desk) -> None:
    cycle(desk, 8)


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_hundred_starts_and_stops_leave_no_process(desk: Desk) -> None:
    cycle(desk, 100)


def test_the_agent_stops_its_servers_in_time(desk: Desk) -> None:
    desk.behave(children=True, ignores=True)
    desk.start()
    [server] = desk.pids()

    # Sees for itself that nothing is left, and in time.
    desk.agent.stop()

    assert not alive(server)


def test_an_api_that_dies_takes_its_servers_along(desk: Desk) -> None:
    desk.behave(children=True)
    desk.start()
    [server] = desk.pids()
    family = {server, *tree(server)}

    os.kill(desk.agent.api_pid(), signal.SIGKILL)
    uri = desk.write("a.py", "x")

    assert failure(desk.complete(uri))[:2] == NOT_INITIALIZED
    assert all(map(wait_gone, family))
