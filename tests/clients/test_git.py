"""What the official clients can do with git."""

from typing import Any

import pytest

from tests.clients.conftest import Told

pytestmark = [
    pytest.mark.clients,
    pytest.mark.timeout(280),
    pytest.mark.parametrize(
        "told", ["git sync", "git async", "git javascript", "git first"], indirect=True
    ),
]


def is_a(
    told: Told, outcome: dict[str, Any], kind: str, status: int, code: str
) -> bool:
    """Tell whether the client raised `kind`; the first one has one kind for all."""
    if told.client == "git first":
        return "DaytonaError" in outcome["kinds"]
    assert (outcome["status"], outcome["code"]) == (status, code), outcome
    return kind in outcome["kinds"]


def test_commits_go_from_one_clone_to_another(told: Told) -> None:
    distant = told["distant"]

    assert distant["cloned"] == "one"
    assert distant["ahead"] == 1
    assert distant["pulled"] == "changed"
    assert distant["status"] == ["main", True, 0, 0, []]
    assert distant["sha"] == 40
    assert distant["kept"] is False


def test_doors_that_stay_shut_are_told(told: Told) -> None:
    for form in ("without", "wrong"):
        outcome = told["distant"][form]
        assert is_a(told, outcome, "DaytonaGitAuthFailedError", 401, "GIT_AUTH_FAILED")


def test_histories_that_diverged_are_conflicts(told: Told) -> None:
    distant = told["distant"]

    assert is_a(
        told,
        distant["rejected"],
        "DaytonaGitPushRejectedError",
        409,
        "GIT_PUSH_REJECTED",
    )
    assert is_a(
        told,
        distant["diverged"],
        "DaytonaGitMergeConflictError",
        409,
        "GIT_MERGE_CONFLICT",
    )


def test_branches_come_and_go(told: Told) -> None:
    branches = told["branches"]

    assert branches["before"] == branches["after"] == ["main"]
    assert branches["both"] == ["main", "side"]
    assert branches["created"] == "side"


def test_failures_of_branches_have_their_precise_class(told: Told) -> None:
    branches = told["branches"]

    for form, kind, status, code in (
        ("unknown", "DaytonaGitBranchNotFoundError", 404, "GIT_BRANCH_NOT_FOUND"),
        ("taken", "DaytonaGitBranchExistsError", 409, "GIT_BRANCH_EXISTS"),
        ("current", "DaytonaConflictError", 409, "CONFLICT"),
        ("nowhere", "DaytonaGitRepoNotFoundError", 404, "GIT_REPO_NOT_FOUND"),
    ):
        assert is_a(told, branches[form], kind, status, code)


def test_files_have_their_states(told: Told) -> None:
    files = told["files"]

    assert files["states"] == {
        "a.txt": ["Unmodified", "Modified"],
        "new": ["Added", "Unmodified"],
    }
    assert is_a(
        told, files["unknown"], "DaytonaFileNotFoundError", 404, "FILE_NOT_FOUND"
    )
    assert is_a(told, files["dirty"], "DaytonaConflictError", 409, "CONFLICT")


def test_newer_calls_work_too(told: Told) -> None:
    newest = told["newest"]
    if told.client == "git first":
        assert newest == {}
        return

    assert newest["branch"] == "trunk"
    assert newest["restored"] == "1"
    assert newest["remotes"] == ["up"]
    assert newest["remote"] == told.given["remote"]
    assert (newest["user"], newest["value"]) == ("Ada", "c")
    assert newest["none"] is newest["unset"] is None
    assert newest["authenticated"] is True
    assert is_a(told, newest["again"], "DaytonaConflictError", 409, "CONFLICT")
    assert is_a(told, newest["mode"], "DaytonaBadRequestError", 400, "BAD_REQUEST")
