"""Version, health, directories, environment and metrics of a real agent."""

import json
import os
import pwd
from typing import Any

import pytest

from tests.support.agent import Agent, StartAgent


def env(agent: Agent, **body: Any) -> Any:
    """Change the environment."""
    return agent.request("POST", "/env", body)


def value(agent: Agent, name: str) -> str:
    """Return what a new command sees."""
    return str(agent.execute(f'printf "%s" "${{{name}-unset}}"').json()["result"])


def test_version_and_health_need_no_token(agent: Agent) -> None:
    version = agent.request("GET", "/version", auth=False)
    health = agent.request("GET", "/health", auth=False)

    assert version.json()["version"].startswith("0.")
    assert all(isinstance(each, str) for each in version.json().values())
    assert health.json() == {"status": "ok", "api": "ok", "keeper": "ok"}


def test_the_directories(agent: Agent) -> None:
    def directory(path: str) -> str:
        return str(agent.request("GET", path).json()["dir"])

    assert directory("/work-dir") == str(agent.work_dir)
    assert directory("/user-home-dir") == directory("/project-dir") == str(agent.home)
    env(agent, set={"HOME": "/elsewhere"})
    assert directory("/user-home-dir") == "/elsewhere"
    env(agent, unset=["HOME"])
    assert directory("/user-home-dir") == pwd.getpwuid(os.getuid()).pw_dir


def test_init_takes_a_token_or_none_and_again(agent: Agent) -> None:
    for body in (b'{"token":"t"}', b'{"token":""}', b"{}", b"", b'{"token":null}'):
        answer = agent.request("POST", "/init", body)
        assert answer.status == 200
        assert json.loads(answer.body)["message"] == "initialized"
    assert agent.request("POST", "/init", b"{").json()["code"] == "INVALID_REQUEST_BODY"
    assert agent.request("POST", "/init", b'{"token":1}').status == 400
    assert agent.request("POST", "/init", b"{}", auth=False).status == 401


def test_the_environment_of_new_commands_is_changed(agent: Agent) -> None:
    answer = env(agent, set={"A": "a b", "EMPTY": "", "SECRET": "dtn-secret:1"})

    assert (answer.status, answer.json()) == (200, {"message": "environment updated"})
    assert value(agent, "A") == "a b"
    assert value(agent, "EMPTY") == ""
    env(agent, unset=["A", "NOT_THERE"], unsetValuePrefix="dtn-secret:")
    assert value(agent, "A") == "unset"
    assert value(agent, "SECRET") == "unset"
    assert value(agent, "EMPTY") == ""


def test_removing_comes_before_setting(agent: Agent) -> None:
    env(agent, set={"A": "p:old", "B": "p:old"})

    env(agent, set={"A": "p:new"}, unset=["A"], unsetValuePrefix="p:")

    assert value(agent, "A") == "p:new"
    assert value(agent, "B") == "unset"


@pytest.mark.parametrize("prefix", [None, ""])
def test_an_empty_prefix_removes_nothing(agent: Agent, prefix: str | None) -> None:
    env(agent, set={"A": "1"})

    env(agent, unsetValuePrefix=prefix)

    assert value(agent, "A") == "1"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"set": {"GOOD": "1", "1BAD": "x"}}, "BAD_REQUEST"),
        ({"set": {"GOOD": "1", "BAD": "\0"}}, "BAD_REQUEST"),
        ({"set": {"GOOD": "1"}, "unset": ["A=B"]}, "BAD_REQUEST"),
        ({"set": {"GOOD": 1}}, "INVALID_REQUEST_BODY"),
        ({"set": []}, "INVALID_REQUEST_BODY"),
        ({"unset": "GOOD"}, "INVALID_REQUEST_BODY"),
    ],
)
def test_a_bad_change_changes_nothing(
    agent: Agent, body: dict[str, object], code: str
) -> None:
    answer = env(agent, **body)

    assert (answer.status, answer.json()["code"]) == (400, code)
    assert value(agent, "GOOD") == "unset"


def test_the_changed_environment_outlasts_the_api_process(agent: Agent) -> None:
    env(agent, set={"A": "kept"})
    os.kill(agent.api_pid(), 9)

    assert value(agent, "A") == "kept"


def test_metrics_have_every_field_in_its_type(agent: Agent) -> None:
    body = agent.request("GET", "/system/metrics").json()

    integers = {
        "timestampUnix", "cpuCount", "memUsed", "memTotal", "memCache",
        "diskUsed", "diskTotal", "diskFree",
    }  # fmt: skip
    assert set(body) == integers | {"timestamp", "cpuUsedPct"}
    assert all(isinstance(body[name], int) for name in integers)
    assert 0 < body["memUsed"] <= body["memTotal"]


def test_the_platforms_variables_are_honoured(start_agent: StartAgent) -> None:
    agent = start_agent(env={"DAYTONA_USER_HOME_AS_WORKDIR": "true"})

    assert agent.request("GET", "/work-dir").json()["dir"] == str(agent.home)


def test_the_description_is_served_and_shown(agent: Agent) -> None:
    document = agent.request("GET", "/openapi.json").json()
    page = agent.request("GET", "/docs")

    assert "/process/execute" in document["paths"]
    assert (
        document["info"]["version"]
        == (agent.request("GET", "/version").json()["version"])
    )
    assert b"https://" not in page.body
    for asset in (
        b"docs/swagger-ui.css",
        b"docs/swagger-ui-bundle.js",
        b"docs/start.js",
    ):
        assert asset in page.body
        assert agent.request("GET", "/" + asset.decode()).status == 200
    assert agent.request("GET", "/docs/no.js").status == 404
    assert agent.request("GET", "/docs", auth=False).status == 401


@pytest.mark.parametrize("locale", ["C", "de_DE.ISO-8859-1"])
def test_names_are_bytes_whatever_the_locale(
    start_agent: StartAgent, locale: str
) -> None:
    agent = start_agent(env={"LC_ALL": locale, "LANG": locale})

    agent.request("POST", "/files/upload?path=%C3%A4%FF", b"content")

    stored = agent.execute("ls --quoting-style=escape").json()["result"]
    assert "ä\\377" in stored or "\\303\\244\\377" in stored
    # bash warns of a locale that is not installed.
    assert agent.execute("printf 'ä漢'").json()["result"].endswith("ä漢")
