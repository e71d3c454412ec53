"""The systemd unit: what its text promises, what systemd says to it, and the protocol.

systemd itself is not running where the tests run. Its own programs check the files and
carry out the snippets on a root directory of the test's; sd_notify goes to a socket of
the test's.
"""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent import StartAgent

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "systemd"
UNIT = FOLDER / "toolbox-agent.service"
DROP_INS = FOLDER / "toolbox-agent.service.d"

MESSAGE_LIMIT_S = 8.0
AGENT_STOP_LIMIT_S = 8


Unit = dict[str, dict[str, str]]


def parsed(path: Path) -> Unit:
    """Read a unit file; a setting that stands more than once has a value a line."""
    sections: Unit = {}
    section: dict[str, str] = {}
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            section[name] = "\n".join(filter(None, [section.get(name), value]))
    return sections


@pytest.fixture(scope="module")
def unit() -> Unit:
    return parsed(UNIT)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Put the unit where all that it names is there, and return its directory."""
    program = tmp_path / "toolbox-agent"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = UNIT.read_text().replace(
        "/opt/toolbox-agent/bin/toolbox-agent", str(program)
    )
    (tmp_path / UNIT.name).write_text(text)
    return tmp_path


def add_drop_in(directory: Path, name: str) -> None:
    """Activate one of the example drop-ins."""
    place = directory / DROP_INS.name
    place.mkdir(exist_ok=True)
    shutil.copyfile(DROP_INS / f"{name}.conf.example", place / f"{name}.conf")


def verify(directory: Path) -> str:
    """Let systemd read the unit, and return what it has to say."""
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(directory / UNIT.name)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        # Only this directory, so that the machine's own units have no say.
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{directory}:"},
    )
    said = [line for line in done.stderr.splitlines() if UNIT.name in line]
    return "\n".join(said) or (done.stderr if done.returncode else "")


def test_systemd_has_nothing_to_say_to_it(installed: Path) -> None:
    assert verify(installed) == ""


@pytest.mark.parametrize("name", ["network", "sudo"])
def test_nor_to_the_examples(installed: Path, name: str) -> None:
    add_drop_in(installed, name)

    assert verify(installed) == ""


def test_a_mistake_would_be_told(installed: Path) -> None:
    place = installed / UNIT.name
    place.write_text(place.read_text().replace("KillMode=mixed", "KillMode=mixt"))
    add_drop_in(installed, "network")
    with (installed / DROP_INS.name / "network.conf").open("a") as file:
        file.write("Sorted=yes\n")

    said = verify(installed)

    assert "mixt" in said
    assert "Sorted" in said


def test_it_comes_back_however_often_it_failed(unit: Unit) -> None:
    assert unit["Service"]["Restart"] == "always"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"


def test_what_stays_wrong_is_not_tried_again(unit: Unit) -> None:
    assert unit["Service"]["RestartPreventExitStatus"].split() == ["2", "78"]


def test_only_the_keeper_speaks_for_it(unit: Unit) -> None:
    assert unit["Service"]["Type"] == "notify"
    assert unit["Service"]["NotifyAccess"] == "main"
    assert int(unit["Service"]["WatchdogSec"]) >= 10


def test_a_command_out_of_memory_is_not_its_end(unit: Unit) -> None:
    assert unit["Service"]["OOMPolicy"] == "continue"
    assert int(unit["Service"]["OOMScoreAdjust"]) < 0


def test_a_stopped_unit_leaves_nothing_and_is_given_the_time(unit: Unit) -> None:
    # TERM to the keeper, then KILL to whatever is left of the control group.
    assert unit["Service"]["KillMode"] == "mixed"
    assert "SendSIGKILL" not in unit["Service"]
    assert "KillSignal" not in unit["Service"]
    assert int(unit["Service"]["TimeoutStopSec"]) >= AGENT_STOP_LIMIT_S + 2


def test_it_runs_as_an_ordinary_user_with_a_private_state(unit: Unit) -> None:
    service = unit["Service"]

    assert service["User"] == "daytona"
    assert service["StateDirectoryMode"] == "0700"
    assert service["Environment"] == f"TOOLBOX_STATE_DIR=%S/{service['StateDirectory']}"
    assert service["NoNewPrivileges"] == "yes"


def test_no_secret_is_given_by_a_variable() -> None:
    for path in (UNIT, *DROP_INS.iterdir()):
        assert not re.search(r"^[^#].*(TOKEN|KEY)=", path.read_text(), re.MULTILINE)


def test_beyond_loopback_the_token_comes_as_a_credential() -> None:
    service = parsed(DROP_INS / "network.conf.example")["Service"]

    assert service["LoadCredential"] == "token:/etc/toolbox-agent/token"
    assert service["Environment"].splitlines() == [
        "TOOLBOX_HOST=0.0.0.0",
        "TOOLBOX_TOKEN_FILE=%d/token",
    ]


def test_the_example_for_sudo_takes_back_all_that_forbids_it(unit: Unit) -> None:
    # With User=, each of these alone implies NoNewPrivileges=yes (man 5 systemd.exec).
    implying = (
        "DynamicUser LockPersonality MemoryDenyWriteExecute PrivateDevices ProtectClock"
        " ProtectHostname ProtectKernelLogs ProtectKernelModules ProtectKernelTunables"
        " RestrictAddressFamilies RestrictFileSystems RestrictNamespaces"
        " RestrictRealtime RestrictSUIDSGID SystemCallArchitectures SystemCallFilter"
        " SystemCallLog NoNewPrivileges"
    )
    forbids = set(implying.split()) & set(unit["Service"])

    taken_back = dict(parsed(DROP_INS / "sudo.conf.example")["Service"])

    assert set(taken_back) == forbids
    assert set(taken_back.values()) == {"", "no"}


def test_nothing_in_it_breaks_what_commands_do(unit: Unit) -> None:
    text = UNIT.read_text()
    breaking = re.findall(r"^# ([A-Z]\w+(?:=, \w+)*)=", text, re.MULTILINE)
    left_out = {name for group in breaking for name in group.split("=, ")}

    assert {"MemoryDenyWriteExecute", "PrivateTmp", "RestrictNamespaces"} <= left_out
    assert not left_out & set(unit["Service"])


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another user")
def test_the_snippets_make_the_user_and_his_home(tmp_path: Path) -> None:
    for tool in ("sysusers", "tmpfiles"):
        place = tmp_path / f"etc/{tool}.d/toolbox-agent.conf"
        place.parent.mkdir(parents=True)
        shutil.copyfile(FOLDER / f"toolbox-agent.{tool}", place)

    for command in (
        ["systemd-sysusers", f"--root={tmp_path}", "toolbox-agent.conf"],
        ["systemd-tmpfiles", f"--root={tmp_path}", "--create", "toolbox-agent.conf"],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=9)

    fields = (tmp_path / "etc/passwd").read_text().strip().splitlines()[-1].split(":")
    home = (tmp_path / "home/daytona").stat()
    assert (fields[0], fields[5], fields[6]) == (
        "daytona",
        "/home/daytona",
        "/bin/bash",
    )
    assert (str(home.st_uid), home.st_mode & 0o777) == (fields[2], 0o755)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Be the socket on which systemd hears of its services."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(MESSAGE_LIMIT_S)
        receiver.bind(str(tmp_path / "notify"))
        yield receiver


def wait_for(manager: socket.socket, wanted: str) -> None:
    """Wait for a message that has this line."""
    while wanted not in manager.recv(4096).decode().splitlines():
        pass


def test_it_tells_ready_alive_and_stopping(
    manager: socket.socket, start_agent: StartAgent
) -> None:
    variables = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "600000"}
    agent = start_agent(env=variables)

    wait_for(manager, "READY=1")
    assert agent.request("GET", "/version").status == 200
    for _ in range(3):
        wait_for(manager, "WATCHDOG=1")
    shown = agent.execute("env").json()["result"]
    assert "NOTIFY_SOCKET" not in shown
    assert "WATCHDOG" not in shown

    assert agent.stop() == 0
    wait_for(manager, "STOPPING=1")
