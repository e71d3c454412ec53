"""What the newest official clients can do with the agent: each promise, every client."""

import socket
from typing import Any

import pytest

from tests.clients.conftest import Told

# Making an environment takes its time on a fresh machine; a script takes seconds.
pytestmark = [
    pytest.mark.clients,
    pytest.mark.timeout(280),
    pytest.mark.parametrize(
        "told", ["python sync", "python async", "javascript"], indirect=True
    ),
]


def is_a(outcome: dict[str, Any], kind: str, status: int, code: str | None) -> bool:
    """Tell whether a client raised `kind`, with this status and code."""
    told = (outcome["status"], outcome["code"])
    assert told == (status, code), outcome
    assert kind in outcome["kinds"], outcome
    return True


def test_create_answers_the_one_sandbox_started(told: Told) -> None:
    created = told["create"]

    assert created["id"] == socket.gethostname()
    assert created["name"] == "workshop"
    assert created["state"] == "started"
    assert created["labels"] == {"team": "blue", "code-toolbox-language": "python"}
    assert created["toolbox"] == f"{told.given['toolbox']}/toolbox"
    assert created["auto_stop"] == 7


def test_environment_given_at_create_reaches_commands(told: Told) -> None:
    assert told["create"]["printed"] == "a b;$c"


def test_get_and_list_find_the_sandbox_by_id_name_and_labels(told: Told) -> None:
    found = told["find"]
    only = [socket.gethostname()]

    assert [found["by name"]] == [found["by id"]] == only
    assert found["all"] == found["fitting"] == only
    assert found["others"] == []
    assert is_a(found["missing"], "DaytonaNotFoundError", 404, None)
    assert "sandbox not found: no-such-sandbox" in found["missing"]["message"]


def test_uploaded_program_runs_on_uploaded_data_and_its_result_comes_back(
    told: Told,
) -> None:
    job = told["job"]

    assert job["exit code"] == 0
    assert job["printed"] == "wrote 4999950000\n"
    assert job["entries"] == ["add.py", "numbers.txt", "result.txt"]
    assert job["result"] == "4999950000"


def test_every_form_of_upload_arrives_byte_for_byte(told: Told) -> None:
    upload = told["upload"]

    assert upload["uploaded"] == upload["expected"]
    assert upload["progress"] == [True, True]


def test_one_upload_that_fails_does_not_keep_the_others(told: Told) -> None:
    upload = told["upload"]

    assert "DaytonaError" in upload["partly"]["kinds"]
    assert upload["partly"]["status"] == 400
    assert "/dev/null/bad" in upload["partly"]["message"]
    assert upload["the rest"] == "good"


def test_every_form_of_download_gives_the_same_bytes(told: Told) -> None:
    download = told["download"]

    for form in ("to memory", "to file", "streamed", "bulk in memory", "progress ends"):
        assert download[form] is True, form
    assert download["empty"] == ""
    assert download["named"] == download["bulk to file"] == "named"


def test_failed_downloads_are_told_file_by_file(told: Told) -> None:
    download = told["download"]

    assert download["bulk failures"] == [
        [404, "FILE_NOT_FOUND"],
        [400, "INVALID_FILE_PATH"],
    ]
    for form in ("missing", "missing stream"):
        assert is_a(download[form], "DaytonaFileNotFoundError", 404, "FILE_NOT_FOUND")


def test_entries_are_made_listed_told_of_and_deleted(told: Told) -> None:
    entries = told["entries"]

    assert entries["shallow"] == [["inner", True], ["leaf", False]]
    assert entries["deep"] == [
        "tree/inner",
        "tree/inner/.hidden",
        "tree/inner/deep",
        "tree/leaf",
    ]
    assert entries["leaf"] == ["leaf", 5, False, True]
    assert entries["inner"] == [True, "0750", "drwxr-x---"]
    assert entries["moved"] == "0o41711"
    assert entries["after file"] == ["inner", "moved"]
    assert entries["after tree"] is False


def test_text_and_names_are_found_and_text_is_replaced(told: Told) -> None:
    searching = told["searching"]

    assert searching["found"] == [
        ["search/a.txt", 2, "a needle, a needle"],
        ["search/sub/b.txt", 1, "needle"],
    ]
    assert searching["named"] == ["search/a.txt", "search/sub/b.txt"]
    assert searching["replaced"] == [
        ["search/a.txt", True, False],
        ["search/sub/b.txt", True, False],
        ["search/none", False, True],
    ]
    assert searching["after"] == "hay\na pin, a pin\n"
    for form in ("missing", "missing names"):
        assert is_a(searching[form], "DaytonaFileNotFoundError", 404, "FILE_NOT_FOUND")


def test_failures_of_file_calls_have_their_precise_class(told: Told) -> None:
    entries = told["entries"]

    assert is_a(entries["refused"], "DaytonaBadRequestError", 400, "BAD_REQUEST")
    assert is_a(entries["taken"], "DaytonaConflictError", 409, "CONFLICT")
    assert is_a(entries["bad mode"], "DaytonaBadRequestError", 400, "BAD_REQUEST")
    for form in ("missing", "move of none", "mode of none"):
        assert is_a(entries[form], "DaytonaFileNotFoundError", 404, "FILE_NOT_FOUND")
    assert is_a(
        entries["denied"], "DaytonaFileAccessDeniedError", 403, "FILE_ACCESS_DENIED"
    )
    assert is_a(
        entries["not a directory"],
        "DaytonaInvalidFilePathError",
        400,
        "INVALID_FILE_PATH",
    )


def test_commands_have_their_output_exit_code_env_and_cwd(told: Told) -> None:
    execute = told["execute"]

    assert execute["order"] == "abc"
    assert execute["codes"] == [0, 1, 42, 255]
    assert execute["env"] == "x; echo $HOME|ü'\"|"
    assert execute["cwd"] == "/\n"
    assert execute["default cwd"] == f"{told.given['work']}\n"
    assert execute["missing cwd"] == -1
    assert execute["stdin"] == "after\n"
    assert execute["large"] == 5_000_000


def test_background_child_neither_holds_up_the_answer_nor_ends_with_it(
    told: Told,
) -> None:
    assert told["execute"]["background"] == [0, True, True]


def test_parallel_commands_each_have_their_own_exit_code(told: Told) -> None:
    assert told["parallel"]["codes"] == list(range(32))


def test_timeout_is_told_as_such_and_in_time(told: Told) -> None:
    execute = told["execute"]

    assert is_a(
        execute["timeout"],
        "DaytonaProcessExecutionTimeoutError",
        408,
        "PROCESS_EXECUTION_TIMEOUT",
    )
    assert execute["timeout in time"] is True


def test_blank_command_is_refused(told: Told) -> None:
    assert is_a(told["execute"]["blank"], "DaytonaBadRequestError", 400, "BAD_REQUEST")


def test_environment_directories_and_metrics_are_told(told: Told) -> None:
    environment = told["environment"]

    assert environment["pushed"] == "a=b c"
    assert environment["removed"] == "unset"
    assert environment["work dir"] == told.given["work"]
    assert environment["home"] == told.given["home"]
    assert environment["metrics"] == [True] * 4


def test_signed_addresses_work_without_a_token(told: Told) -> None:
    signed = told["signed"]

    assert signed["get"] == "signed content"
    assert signed["head"] == "14"
    assert signed["multipart"] == "by-url.txt"
    assert signed["raw"] == [200, "second"]


def test_forged_addresses_are_refused(told: Told) -> None:
    assert told["signed"]["forged"] == [401, 401, 401, 401]


def test_wrong_key_is_an_authentication_error(told: Told) -> None:
    assert is_a(told["refused"]["wrong key"], "DaytonaAuthenticationError", 401, None)


def test_what_nobody_here_can_do_is_said_plainly(told: Told) -> None:
    refused = told["refused"]

    for deed, words in (
        ("history", "cannot keep a history of metrics"),
        ("snapshot", "cannot make snapshots"),
        ("fork", "cannot fork a sandbox"),
    ):
        assert is_a(refused[deed], "DaytonaError", 501, None)
        assert words in refused[deed]["message"]
    assert is_a(refused["image"], "DaytonaBadRequestError", 400, None)
    assert "cannot build an image" in refused["image"]["message"]


def test_stop_start_and_settings_change_what_is_told(told: Told) -> None:
    life = told["life"]

    assert life["stopped"] == "stopped"
    assert life["started"] == "started"
    assert life["labels"] == {"team": "green"}
    assert life["auto stop"] == 11
    assert life["ssh"] == [True, False]


def test_deleted_sandbox_is_still_told_of_until_create_brings_it_back(
    told: Told,
) -> None:
    life = told["life"]

    assert life["deleted"] == life["after"] == "destroyed"
    assert life["listed"] == []
    assert is_a(life["start"], "DaytonaConflictError", 409, None)
    assert life["again"] == ["started", True, {"code-toolbox-language": "python"}]
    assert life["environment"] == "unset"
