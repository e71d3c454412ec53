"""What the newest official clients make of the code interpreter."""

import pytest

from tests.clients.conftest import Told

pytestmark = [
    pytest.mark.clients,
    pytest.mark.timeout(280),
    pytest.mark.parametrize(
        "told",
        ["interpreter sync", "interpreter async", "interpreter javascript"],
        indirect=True,
    ),
]


def test_code_keeps_its_state_and_its_output_is_heard(told: Told) -> None:
    running = told["running"]

    stdout, stderr, error = running["called"]
    assert (stdout, stderr) == ("42\nchild\n", "e")
    assert error[:2] == ["ZeroDivisionError", "division by zero"]
    assert error[2].startswith("Traceback (most recent call last):\n")
    assert running["heard"] == {
        "stdout": stdout,
        "stderr": stderr,
        "error": "ZeroDivisionError",
    }
    assert running["many"] == ["1\n"] * 100


def test_variables_are_those_of_one_run(told: Told) -> None:
    running = told["running"]

    assert running["envs"] == ["b c\n", "", None]
    assert running["after"] == ["None\n", "", None]


def test_long_output_and_long_errors_arrive(told: Told) -> None:
    assert told["running"]["long"] == 5_000_001
    assert told["running"]["error"] == "ValueError"


def test_input_and_exit_do_no_harm(told: Told) -> None:
    assert told["running"]["input"] == "EOFError"
    assert told["running"]["exit"] == ["", "", None]


def test_a_time_limit_is_told_as_such_and_keeps_the_state(told: Told) -> None:
    limits = told["limits"]

    assert "DaytonaTimeoutError" in limits["late"]["kinds"]
    assert limits["in time"] is True
    assert limits["kept"] == ["1\n", "", None]


def test_the_end_of_a_worker_is_told_and_the_next_run_works(told: Told) -> None:
    limits = told["limits"]

    assert "DaytonaConnectionError" in limits["died"]["kinds"]
    assert "worker process ended: exit code 3" in limits["died"]["message"]
    assert limits["fresh"] == ["False\n", "", None]


def test_contexts_are_made_listed_and_deleted(told: Told) -> None:
    contexts = told["contexts"]

    assert contexts["before"] == contexts["after"] == 0
    assert contexts["ran"] == ["/\n", "", None]
    assert contexts["listed"] == [[True, "/", True, "python"]]
    assert contexts["created"] is True


def test_failures_of_contexts_have_their_class(told: Told) -> None:
    contexts = told["contexts"]

    assert "DaytonaConnectionError" in contexts["gone"]["kinds"]
    assert "context not found" in contexts["gone"]["message"]
    assert "DaytonaProcessNotFoundError" in contexts["deleted twice"]["kinds"]
    assert contexts["bad cwd"]["status"] == 500
