"""What the newest sync client meets when the api process dies under a request."""

import pytest

from tests.clients.conftest import Told

pytestmark = [
    pytest.mark.alone,
    pytest.mark.clients,
    pytest.mark.timeout(280),
    pytest.mark.parametrize("told", ["python killed"], indirect=True),
]


def test_command_whose_api_died_is_not_sent_again_and_runs_to_its_end(
    told: Told,
) -> None:
    execute = told["execute"]

    # One that is sent again would stand here twice.
    assert sorted(execute["lines"]) == sorted(
        [f"{word} {number}" for number in range(5) for word in ("begun", "ended")]
    )


def test_caller_is_told_that_the_connection_broke(told: Told) -> None:
    for failed in told["execute"]["failures"]:
        assert "DaytonaConnectionError" in failed["kinds"], failed
        assert failed["status"] is None


def test_next_request_is_served_in_time(told: Told) -> None:
    # The limit is one second; the rest is for a machine that has other work.
    assert max(told["execute"]["served"]) < 3


def test_signed_address_outlasts_the_api_that_made_it(told: Told) -> None:
    assert told["execute"]["signed"] is True
