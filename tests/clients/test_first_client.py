"""What the first official client (0.25.6) can do with the agent."""

import pytest

from tests.clients.conftest import Told

pytestmark = [
    pytest.mark.clients,
    pytest.mark.timeout(280),
    pytest.mark.parametrize("told", ["python first"], indirect=True),
]


def test_create_get_and_list_answer_the_one_sandbox(told: Told) -> None:
    created = told["create"]

    assert created["state"] == "started"
    assert created["same"] is True
    assert created["all"] is True
    assert (created["fitting"], created["others"]) == (1, 0)
    assert "sandbox not found: no-such-sandbox" in created["missing"]["message"]


def test_relative_and_tilde_paths_go_to_the_home_directory(told: Told) -> None:
    paths = told["paths"]

    assert paths["root"] == told.given["home"]
    assert paths["contents"] == {
        "relative.txt": "relative",
        "tilde.txt": "tilde",
        "данные № 1/отчёт “A” 100% + ü.txt": "absolute",
    }
    assert paths["download"] == "tilde"
    assert paths["named"] == "absolute"
    assert paths["listed"] == ["relative.txt", "tilde.txt", "данные № 1"]


def test_files_go_up_and_down_byte_for_byte(told: Told) -> None:
    files = told["files"]

    for form in ("large", "many", "copy", "memory", "deleted"):
        assert files[form] is True, form
    assert files["second"] == "second"
    assert files["info"] == ["large", 24 * 1024 * 1024, False]
    assert files["folder"] == "0o750"
    assert files["moved"] == "0o40700"
    assert files["found"] == [[True, 2, "needle"]]
    assert files["named"] is True
    assert files["replaced"] == [True, "hay\npin\n"]


def test_failures_of_file_calls_say_what_is_wrong(told: Told) -> None:
    files = told["files"]

    assert "file not found" in files["missing"]["message"]
    assert "404" in files["missing to file"]["message"]
    assert "file not found" in files["missing info"]["message"]
    assert "without recursive flag" in files["directory"]["message"]
    assert "destination already exists" in files["taken"]["message"]
    for each in ("missing", "missing to file", "missing info", "directory", "taken"):
        assert "DaytonaError" in files[each]["kinds"], files[each]


def test_commands_run_as_their_legacy_wrapper_means(told: Told) -> None:
    execute = told["execute"]

    assert execute["printed"] == "one\ntwo\n"
    assert execute["code"] == 42
    # The client itself ends every line, the last one too.
    assert execute["env"] == '[x;echo INJECTED][it\'s "q" $HOME][ü]\n'
    assert execute["cwd"] == f"{told.given['home']}\n"
    assert execute["other cwd"] == "/\n"
    assert execute["stdin"] == "after\n"
    assert execute["quotes"] == "a\"bc'd\n"
    assert execute["code run"] == "42 []\n"


def test_background_child_outlives_its_command(told: Told) -> None:
    assert told["execute"]["background"] == [0, True, True]


def test_timeout_is_told_as_such(told: Told) -> None:
    assert "command execution timeout" in told["execute"]["timeout"]["message"]


def test_stop_start_delete_and_create_again(told: Told) -> None:
    life = told["life"]

    assert (life["stopped"], life["started"]) == ("stopped", "started")
    assert life["labels"] == {"team": "green"}
    assert life["listed"] == 0
    assert life["again"] == "started"
    assert "a valid token is required" in life["wrong key"]["message"]
