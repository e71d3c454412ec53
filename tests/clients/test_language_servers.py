"""What the official clients make of language servers: their own end-to-end flow."""

import pytest

from tests.clients.conftest import Told

pytestmark = [pytest.mark.clients, pytest.mark.timeout(280)]

every = pytest.mark.parametrize(
    "told", ["lsp sync", "lsp async", "lsp javascript", "lsp first"], indirect=True
)


def is_kind(told: Told, outcome: dict[str, object], kind: str, status: int) -> None:
    """See that a failure is of a kind, by what this client tells of one."""
    if told.client == "lsp first":
        assert "DaytonaError" in str(outcome["kinds"])
    else:
        assert kind in str(outcome["kinds"])
        assert outcome["status"] == status


@every
def test_the_official_flow_passes(told: Told) -> None:
    flow = told["flow"]

    assert "Greeter" in flow["document"]
    assert "Greeter" in flow["sandbox"]
    root = told.given["home" if told.client == "lsp first" else "work"]
    assert flow["uris"] == [f"file://{root}/e2e-lsp-project/sample.py"]
    assert any(label.startswith("greet") for label in flow["labels"])


@every
def test_documentation_reaches_the_client(told: Told) -> None:
    assert told["flow"]["documented"] > 0


@every
def test_questions_before_start_and_after_stop_are_told_as_such(told: Told) -> None:
    for when in ("early", "late"):
        outcome = told["flow"][when]
        is_kind(told, outcome, "DaytonaLspServerNotInitializedError", 400)
        assert "no python language server is started" in outcome["message"]


@every
def test_paths_that_no_client_encodes_are_found(told: Told) -> None:
    paths = told["paths"]

    assert all(found == ["odd"] for found in paths["found"])
    is_kind(told, paths["missing"], "DaytonaBadRequestError", 400)
    assert "file not found" in paths["missing"]["message"]


@every
def test_failures_of_a_start_are_told(told: Told) -> None:
    unknown, nowhere = told["failures"]["unknown"], told["failures"]["nowhere"]

    # The JavaScript client knows three languages, and asks nobody about others.
    if told.client != "lsp javascript":
        is_kind(told, unknown, "DaytonaBadRequestError", 400)
        assert "'cobol' is not supported" in unknown["message"]
    is_kind(told, nowhere, "DaytonaBadRequestError", 400)
    assert "project is not a directory" in nowhere["message"]
