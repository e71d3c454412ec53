"""Who may call a real agent: every route times every kind of caller.

The routes are those of the tables, so a new one cannot be forgotten here.
"""

import re
import secrets
from pathlib import Path

import pytest

from agent.app import tables
from agent.web import docs
from agent.web.routes import ANY_METHOD
from tests.support.agent import Agent, StartAgent
from tests.support.processes import tree

PUBLIC = {("GET", "/version"), ("GET", "/health")}
ROUTES = sorted(
    # A route for every method is asked with one of them.
    (route.method.replace(ANY_METHOD, "GET"), re.sub(r"\{.*?\}", "x", route.path))
    for table in (*tables(), docs.routes)
    for route in table
)
PREFIXES = ("", "/toolbox/box", "/toolbox/box/toolbox", "/box")
TOKEN = f"canary-{secrets.token_hex(8)}"


def ask(agent: Agent, method: str, path: str, **headers: str) -> int:
    """Return the status of a raw request with exactly these headers."""
    headers = {"Host": f"127.0.0.1:{agent.port}", "Connection": "close", **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""])
    with agent.connection() as connection, connection.makefile("rb") as answer:
        connection.sendall(head.encode("latin-1"))
        # The rest may have no end, where events are followed.
        return int(answer.readline().split()[1])


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def test_only_version_and_health_are_open_to_everybody() -> None:
    public = {
        (route.method, route.path)
        for table in (*tables(), docs.routes)
        for route in table
        if route.public
    }

    assert public == PUBLIC


@pytest.mark.timeout(60)
def test_every_route_wants_the_token(start_agent: StartAgent) -> None:
    agent = start_agent(token=TOKEN)
    own = f"http://127.0.0.1:{agent.port}"
    strangers: list[tuple[dict[str, str], int]] = [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer t\xf6k\xe9n"}, 401),
        ({"X_Daytona_Preview_Token": "wrong"}, 401),
        (UPGRADE, 401),
        ({**UPGRADE, "Origin": own}, 401),
        ({"Host": "evil.test"}, 421),
        ({"Origin": "http://evil.test"}, 403),
        ({**UPGRADE, "Origin": "http://evil.test"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
    ]
    for method, path in ROUTES:
        for headers, status in strangers:
            expected = 200 if (method, path) in PUBLIC and status == 401 else status
            for prefix in PREFIXES:
                got = ask(agent, method, prefix + path, **headers)
                assert got == expected, (method, prefix + path, headers)
        right = ask(agent, method, path, Authorization=f"Bearer {TOKEN}")
        assert right not in {401, 403, 421}, (method, path)


@pytest.mark.parametrize("how", ["file", "variable", "made"])
def test_the_token_is_nowhere_to_be_read(start_agent: StartAgent, how: str) -> None:
    if how == "variable":
        agent = start_agent("--log-level", "debug", env={"TOOLBOX_TOKEN": TOKEN})
        token = TOKEN
    else:
        given = TOKEN if how == "file" else None
        agent = start_agent("--log-level", "debug", token=given)
        token = agent.token
    auth = {"Authorization": f"Bearer {token}"}

    def run(command: str) -> str:
        body = {"command": command}
        answer = agent.request("POST", "/process/execute", body, auth, auth=False)
        return str(answer.json()["result"])

    shown = run("cat /proc/*/cmdline /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; env")
    for path in (
        f"/version?DAYTONA_SANDBOX_AUTH_KEY={token}",
        f"/no/{token}?x={token}",
    ):
        agent.request("GET", path, headers=auth, auth=False)
    agent.request("POST", "/process/execute", b"{" + token.encode(), auth, auth=False)
    places = {
        path
        for path in (agent.state_dir, agent.work_dir, agent.home)
        for path in path.rglob("*")
        if path.is_file() and token in path.read_text(errors="replace")
    }

    assert "AGENT_UNDER_TEST" in shown
    assert token not in shown
    assert token not in agent.log()
    assert token not in agent.output()
    assert places == ({agent.state_dir / "token"} if how == "made" else set())
    for pid in {agent.pid, *tree(agent.pid)}:
        for name in ("cmdline", "environ"):
            assert token.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()


def test_the_made_token_is_ours_alone_and_outlasts_the_agent(
    start_agent: StartAgent, tmp_path: Path
) -> None:
    state = str(tmp_path / "kept")
    first = start_agent("--state-dir", state)
    file = Path(state) / "token"
    token = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert str(file) in first.log()
    first.stop()

    second = start_agent("--state-dir", state)

    auth = {"Authorization": f"Bearer {token}"}
    assert second.request("GET", "/work-dir", headers=auth, auth=False).status == 200


def test_no_auth_says_so_and_still_keeps_pages_out(start_agent: StartAgent) -> None:
    agent = start_agent("--no-auth")

    assert "warning" in agent.log()
    assert ask(agent, "GET", "/work-dir") == 200
    assert ask(agent, "GET", "/work-dir", Origin="http://evil.test") == 403
    assert ask(agent, "GET", "/work-dir", Host="evil.test") == 421
    # A page of the sandbox would have the agent's origin; programs have none.
    assert ask(agent, "GET", "/proxy/1/") == 502
    assert ask(agent, "GET", "/proxy/1/", **{"Sec-Fetch-Site": "none"}) == 403
    assert ask(agent, "GET", "/proxy/1/", **{"Sec-Fetch-Site": "same-origin"}) == 403


def test_a_trusted_network_listens_everywhere_without_a_token(
    start_agent: StartAgent,
) -> None:
    agent = start_agent("--host", "0.0.0.0", "--trust-network")

    assert ask(agent, "GET", "/work-dir", Host="box.example") == 200
    # The network's own proxy keeps the pages of the sandbox at another origin.
    site = {"Host": "box.example", "Sec-Fetch-Site": "none"}
    assert ask(agent, "GET", "/proxy/1/", **site) == 502
    assert "warning" in agent.log()


def test_another_process_of_the_user_cannot_look_into_the_agent(
    agent: Agent,
) -> None:
    agent.request("GET", "/version")
    for pid in (agent.pid, agent.api_pid()):
        status = Path(f"/proc/{pid}/status").read_text()
        assert "CoreDumping:\t0" in status
        # A process that is not dumpable has its files owned by root.
        assert Path(f"/proc/{pid}/environ").stat().st_uid == 0


def test_answers_carry_no_permission_for_other_origins(agent: Agent) -> None:
    for path in ("/version", "/work-dir", "/nothing"):
        headers = agent.request("GET", path).headers
        names = {name.lower() for name in headers}
        assert not {name for name in names if name.startswith("access-control")}
        assert "set-cookie" not in names
