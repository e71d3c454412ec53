"""What the newest official clients can do with terminals."""

import pytest

from tests.clients.conftest import Told

pytestmark = [
    pytest.mark.clients,
    pytest.mark.timeout(280),
    pytest.mark.parametrize(
        "told",
        ["terminals sync", "terminals async", "terminals javascript"],
        indirect=True,
    ),
]


def test_a_terminal_has_what_was_asked_for_and_tells_its_end(told: Told) -> None:
    session = told["session"]

    assert session["text"] == [True, True, True]
    assert session["info"] == [100, 30, "/usr", True, "a b;ü"]
    assert session["listed"] == ["main"]
    assert session["ended"] == [7, "non-zero exit"]


def test_a_taken_id_and_an_ended_terminal_are_told_as_such(told: Told) -> None:
    session = told["session"]

    # JavaScript's websockets hide the status of a refused upgrade.
    is_javascript = "javascript" in told.client
    kind = "DaytonaConnectionError" if is_javascript else "DaytonaConflictError"
    assert kind in session["taken"]["kinds"], session["taken"]
    assert "DaytonaProcessNotFoundError" in session["after"]["kinds"]


def test_every_end_has_its_code_and_reason(told: Told) -> None:
    assert told["ends"] == {
        "well": [0, None],
        "badly": [3, "non-zero exit"],
        "interrupted": [130, "Ctrl+C"],
        "killed itself": [137, "SIGKILL"],
        "killed": [137, "SIGKILL"],
    }


def test_long_output_arrives_whole_before_the_end(told: Told) -> None:
    assert told["volume"] == {"ended": [0, None], "whole": True}


def test_a_client_that_comes_back_gets_what_it_has_missed(told: Told) -> None:
    again = told["again"]

    assert again["ended"] == [0, None]
    assert "PTY session nobody not found" in again["unknown"]["message"]
