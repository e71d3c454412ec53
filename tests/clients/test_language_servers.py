"""What the official clients make of language servers: their own end-to-end flow."""

import pytest

from tests.clients.conftest import Told

pytestmark = [pytest.mark.clients, pytest.mark.timeout(280)]

CLIENTS = ("lsp sync", "lsp async", "lsp first", "lsp javascript")
SERVERS = (
    "pylsp",
    "basedpyright",
    "typescript-native",
    "typescript-language-server",
)

with_others = pytest.mark.parametrize(
    "told",
    [
        f"{client} with {server}"
        for server in SERVERS
        for client in CLIENTS
        if client != "lsp async"
    ],
    indirect=True,
)
every = pytest.mark.parametrize("told", CLIENTS, indirect=True)


def is_kind(told: Told, outcome: dict[str, object], kind: str, status: int) -> None:
    """See that a failure is of a kind, by what this client tells of one."""
    if told.client == "lsp first":
        assert "DaytonaError" in str(outcome["kinds"])
    else:
        assert kind in str(outcome["kinds"])
        assert outcome["status"] == status


@every
def test_the_official_flow_passes(told: Told) -> None:
    see_the_flow(told)


def see_the_flow(told: Told) -> None:
    """See that the flow went as all official clients want it."""
    flow = told["flow"]

    assert "Greeter" in flow["document"]
    assert "Greeter" in flow["sandbox"]
    root = told.given["home" if told.client.startswith("lsp first") else "work"]
    file = told.given["file"]
    assert flow["uris"] == [f"file://{root}/e2e-lsp-project/{file}"]
    assert any(label.startswith("greet") for label in flow["labels"])


@with_others
def test_the_official_flow_passes_with_every_server(told: Told) -> None:
    see_the_flow(told)


@with_others
def test_paths_that_no_client_encodes_are_found_by_every_server(told: Told) -> None:
    assert all(found == ["odd"] for found in told["paths"]["found"])


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
