"""One agent for all tests of a file, whose PATH has a Python with matplotlib, and node."""

from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from tests.clients.environments import tools_path
from tests.support.agent import Agent, running

LIMIT_S = 60.0


class RunCode(Protocol):
    """Runs code and returns the body of its answer."""

    def __call__(
        self, code: str, language: str = "python", **fields: object
    ) -> dict[str, Any]:
        """Run `code`."""


def code_run(agent: Agent, code: str, language: str, **fields: object) -> Any:
    body = {"code": code, "language": language, **fields}
    answer = agent.request("POST", "/process/code-run", body, limit_s=LIMIT_S)
    assert answer.status == 200, answer.body
    return answer.json()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """Return an agent that all tests of the file share."""
    root = tmp_path_factory.mktemp("sandbox")
    # Its home is new, and matplotlib would look through all fonts anew for each home.
    fonts = tmp_path_factory.getbasetemp().parent / "matplotlib"
    fonts.mkdir(exist_ok=True)
    env = {"PATH": tools_path(), "MPLCONFIGDIR": str(fonts)}
    with running(root, env=env) as agent:
        yield agent


@pytest.fixture
def run(sandbox: Agent) -> RunCode:
    """Return what runs code and returns the body of the answer."""

    def run_code(code: str, language: str = "python", **fields: object) -> Any:
        return code_run(sandbox, code, language, **fields)

    return run_code
