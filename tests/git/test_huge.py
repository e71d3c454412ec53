"""A repository of fifty thousand files; outside .ci/run."""

from pathlib import Path

import pytest

from agent.files.deletion import delete
from tests.bench.measure import MIB, peak_growth
from tests.git.conftest import Git
from tests.git.remote import git as run, repository
from tests.support.agent import StartAgent

FILES = 50_000

# Root, because the agent hides its memory from others.
pytestmark = [pytest.mark.long, pytest.mark.root, pytest.mark.timeout(600)]


def test_huge_repository_is_worked_with_as_any_other(
    start_agent: StartAgent, tmp_path: Path
) -> None:
    repo = repository(tmp_path / "huge")
    for number in range(FILES):
        path = repo / f"d{number // 100}" / f"f{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{number}\n")
    agent = start_agent(measured=False)
    git, clone = Git(agent), tmp_path / "clone"

    def ask(route: str, **body: object) -> object:
        answer = agent.request("POST", f"/git/{route}", body, limit_s=300)
        assert answer.status == 200, answer.body
        return answer.body

    agent.request("GET", f"/git/branches?path={repo}")
    with peak_growth([agent.api_pid()]) as growth:
        answer = agent.request("GET", f"/git/status?path={repo}", limit_s=300)
        assert len(answer.json()["fileStatus"]) == FILES
        ask("add", path=str(repo), files=["."])
        ask("commit", path=str(repo), message="m", author="A", email="a@x")
        ask("clone", url=f"file://{repo}", path=str(clone))
        assert git.files(clone) == {}

    assert len(run("ls-files", cwd=clone).splitlines()) == FILES
    # The status of all files as JSON is 5 MB; nothing else is held.
    assert growth[0] < 64 * MIB
    for each in (repo, clone):
        delete(str(each), recursive=True)
