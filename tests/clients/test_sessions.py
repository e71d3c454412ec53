"""What the official clients of four generations make of sessions."""

from typing import Any

import pytest

from tests.clients.conftest import ENTRYPOINT, Told

pytestmark = [pytest.mark.clients, pytest.mark.timeout(280)]

every = pytest.mark.parametrize(
    "told",
    [
        "sessions sync",
        "sessions async",
        "sessions middle sync",
        "sessions middle async",
        "sessions javascript",
    ],
    indirect=True,
)
newest = pytest.mark.parametrize(
    "told", ["sessions sync", "sessions async", "sessions javascript"], indirect=True
)
first = pytest.mark.parametrize("told", ["sessions first"], indirect=True)
generated = pytest.mark.parametrize("told", ["python generated"], indirect=True)


def failed(outcome: dict[str, Any], kind: str, status: int, code: str | None) -> bool:
    """Tell whether a client raised `kind`, with this status and code."""
    assert (outcome["status"], outcome["code"]) == (status, code), outcome
    assert kind in outcome["kinds"], outcome
    return True


@every
def test_a_session_keeps_its_state_and_is_told_of(told: Told) -> None:
    life = told["life"]
    name = "a ü-b" if told.client == "sessions javascript" else "a ü/b"

    assert life["made"] == [name, []]
    assert life["codes"] == [0, 7]
    assert life["stdout"] == "/\nx y"
    assert life["commands"] == [
        ["cd /; export A='x y'", 0],
        ['pwd; printf %s "$A"; (exit 7)', 7],
    ]
    assert life["listed"] == [name]
    assert life["command"] == [True, 7]
    assert life["after"] == []
    assert "already exists" in life["taken"]["message"]
    assert "not found" in life["deleted"]["message"]


@every
def test_outputs_come_apart_whoever_takes_them_apart(told: Told) -> None:
    outputs = told["outputs"]
    apart = ["out é", "err 漢"]

    assert outputs["ran"] == [*apart, 0]
    assert outputs["logs"] == outputs["heard"] == apart
    assert outputs["quiet"] == ["", "", 0]


@newest
def test_the_combined_text_has_no_markers(told: Told) -> None:
    assert told["outputs"]["combined"] == "out éerr 漢"


@every
def test_callbacks_hear_everything_in_time_and_the_code_is_there_then(
    told: Told,
) -> None:
    following = told["following"]

    assert following["started"] == [None, "", True]
    assert following["whole"] is True
    assert following["err"] == "bad\n"
    assert following["code"] == 0
    assert following["pieces"] == ["a\n", "b\n"]


@every
def test_input_reaches_its_command_and_the_log(told: Told) -> None:
    typing = told["typing"]

    # The echo of both lines, what `read` got, and what `cat` gave back.
    assert typing["log"] == ["first", "first", "got", "second", "second"]
    assert typing["heard"] is True


@every
def test_the_entrypoint_is_heard_of(told: Told) -> None:
    entrypoint = told["entrypoint"]

    ((name, command),) = entrypoint["commands"]
    assert name == "entrypoint_command"
    assert command.startswith("sh -c ")
    assert command.count("'") == 2
    assert ENTRYPOINT[2] in command
    assert entrypoint["logs"] == entrypoint["heard"] == ["up é\n", "bad\n"]


@newest
def test_failures_have_their_precise_class(told: Told) -> None:
    failures = told["failures"]
    unknown = ("DaytonaProcessNotFoundError", 404, "PROCESS_NOT_FOUND")

    assert failures["last"] == 5
    assert failed(
        failures["late"],
        "DaytonaCommandAlreadyCompletedError",
        410,
        "COMMAND_ALREADY_COMPLETED",
    )
    assert failed(failures["dead"], "DaytonaSessionEndedError", 410, "SESSION_ENDED")
    assert failed(failures["unknown"], *unknown)
    assert failed(failures["unknown command"], *unknown)
    assert failed(failures["blank"], "DaytonaBadRequestError", 400, "BAD_REQUEST")
    assert failed(failures["reserved"], "DaytonaBadRequestError", 400, "BAD_REQUEST")
    assert failed(told["life"]["taken"], "DaytonaConflictError", 409, "CONFLICT")
    assert "404" in failures["unknown follow"]["message"]


@first
def test_the_first_client_gets_one_text_from_its_home_directory(told: Told) -> None:
    life, logs = told["life"], told["logs"]

    assert life["where"] == f"{told.given['home']}\n"
    assert life["kept"] == ["/\nkept\n", 7]
    assert life["commands"][1][1] == life["command"] == 7
    assert life["listed"] == ["first"]
    assert "not found" in life["deleted"]["message"]
    assert logs["ran"] == logs["log"] == "outerr"
    assert logs["heard"] is True
    assert logs["again"] is True
    assert logs["code"] == 0
    assert "not found" in logs["missing"]["message"]


@generated
def test_the_generated_client_has_every_call(told: Told) -> None:
    sessions = told["sessions"]

    assert sessions["made"] == {"sessionId": "made", "commands": []}
    assert sessions["ran"] == ["out", "err", 3]
    assert sessions["started"] is None
    assert sessions["logs"] == {
        "output": "given\ngot given\n",
        "stdout": "given\ngot given\n",
        "stderr": "",
    }
    assert sessions["codes"] == [3, 0]
    assert sessions["listed"] == ["made"]
    for name in ("entrypoint", "entrypoint logs", "deleted"):
        assert "NotFoundException" in sessions[name]["kinds"]
