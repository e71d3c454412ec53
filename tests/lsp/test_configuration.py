"""What the user writes into the TOML file reaches the server, and bounds hold."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.test_start import HEAVY, SHOWING_API, loaded
from tests.lsp.conftest import Desk, failure, install
from tests.support.agent import StartAgent
from tests.support.processes import alive


def configured(start_agent: StartAgent, tmp_path: Path, text: str) -> Desk:
    """Start an agent with a configuration; a server is there under the name `own`."""
    install(tmp_path / "bin", "own")
    file = tmp_path / "lsp.toml"
    file.write_text(text.replace("OWN", str(tmp_path / "bin/own")))
    agent = start_agent("--lsp-config", str(file), env={"PATH": os.defpath})
    (agent.work_dir / "proj").mkdir()
    return Desk(agent)


def asked_for(desk: Desk) -> list[Any]:
    """Return what the server is told when it asks for the sections `a` and `b`."""
    uri = desk.write("a.py", "do: ask workspace/configuration")
    [label] = desk.labels(uri)
    answer: dict[str, list[Any]] = json.loads(label)
    return answer["result"]


def test_a_servers_command_settings_options_and_variables_are_the_users(
    start_agent: StartAgent, tmp_path: Path
) -> None:
    desk = configured(
        start_agent,
        tmp_path,
        """
        [python]
        command = ["OWN", "--word"]
        environment = { MINE = "x y" }
        [python.settings]
        a = { strict = true }
        [python.initializationOptions]
        first = [1, 2]
        """,
    )
    desk.start()

    [begun] = desk.heard("initialize")
    assert begun["params"]["initializationOptions"] == {"first": [1, 2]}
    words = Path(f"/proc/{begun['pid']}/cmdline").read_bytes().split(b"\0")
    assert b"--word" in words
    variables = Path(f"/proc/{begun['pid']}/environ").read_bytes().split(b"\0")
    assert b"MINE=x y" in variables
    assert asked_for(desk) == [{"strict": True}, None]
    [told] = desk.heard("workspace/didChangeConfiguration")
    assert told["params"]["settings"] == {"a": {"strict": True}}


def test_a_language_of_the_users_own_is_served(
    start_agent: StartAgent, tmp_path: Path
) -> None:
    desk = configured(
        start_agent,
        tmp_path,
        """
        [toml]
        command = ["OWN"]
        suffixes = { ".toml" = "toml" }
        """,
    )
    desk.language = "toml"
    uri = desk.write("a.toml", "x = 1")
    desk.start()

    assert desk.labels(uri) == ["x = 1"]
    [opened] = desk.heard("textDocument/didOpen")
    assert opened["params"]["textDocument"]["languageId"] == "toml"


def test_one_server_more_than_the_limit_stops_the_one_asked_longest_ago(
    start_agent: StartAgent, tmp_path: Path
) -> None:
    desk = configured(
        start_agent,
        tmp_path,
        '[limits]\nservers = 2\n[python]\ncommand = ["OWN"]',
    )
    found: dict[str, int] = {}
    for name in ("one", "two"):
        (desk.agent.work_dir / name).mkdir()
        (desk.agent.work_dir / name / "a.py").write_text(name)
        desk.project = name
        before = desk.pids()
        desk.start()
        [found[name]] = desk.pids() - before
    desk.project = "one"
    assert desk.labels("file://one/a.py") == ["one"]

    desk.project = "proj"
    desk.start()

    until = time.monotonic() + 8
    while alive(found["two"]):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert alive(found["one"])
    desk.project = "two"
    assert failure(desk.complete("file://two/a.py"))[1] == "LSP_SERVER_NOT_INITIALIZED"


def test_a_file_that_makes_no_sense_fails_the_start_and_is_named(
    start_agent: StartAgent, tmp_path: Path
) -> None:
    desk = configured(start_agent, tmp_path, "[python]\ncommand = 7")

    status, code, message = failure(desk.post("start"))

    assert (status, code) == (500, "INTERNAL_SERVER_ERROR")
    assert "lsp.toml" in message


def test_each_restart_after_a_crash_waits_a_little_longer(desk: Desk) -> None:
    bad, good = desk.write("bad.py", "do: crash"), desk.write("good.py", "fine")
    desk.start()

    took = []
    for _ in range(3):
        assert failure(desk.complete(bad))[0] == 500
        began = time.monotonic()
        assert desk.labels(good) == ["fine"]
        took.append(time.monotonic() - began)

    assert took[1] >= 0.25
    assert took[2] >= 1.0


# Unmeasured, because coverage loads a good part of what is looked for.


@pytest.mark.parametrize("started", [False, True])
def test_what_speaks_to_servers_is_loaded_by_the_first_start_and_not_before(
    start_agent: StartAgent, tmp_path: Path, *, started: bool
) -> None:
    install(tmp_path / "bin")
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.defpath}"
    agent = start_agent(program=SHOWING_API, measured=False, env={"PATH": path})
    (agent.work_dir / "proj").mkdir()
    desk = Desk(agent)
    uri = desk.write("a.py", "x")

    assert agent.request("GET", "/lsp/status").status == 200
    assert desk.complete(uri).status == 400
    assert desk.post("stop").status == 200
    if started:
        desk.start()
        assert desk.labels(uri) == ["x"]
    agent.stop()

    speaks = {"pygls", "lsprotocol", "cattrs"} & HEAVY
    assert len(speaks) == 3
    modules = {module.split(".")[0] for module in loaded(agent.log())}
    assert speaks & modules == (speaks if started else set())
