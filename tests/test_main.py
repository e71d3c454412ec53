"""The command line, as a process: what it refuses, what it tells, and how it hides."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.agent import PROGRAM, environment

LIMIT_S = 9


def toolbox(
    *words: str, cwd: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    variables = {"HOME": str(cwd), **variables}
    return subprocess.run(
        [PROGRAM, *words],
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def one_line(text: str) -> bool:
    return text.endswith("\n") and text.count("\n") == 1


def test_version_and_help_are_answered(tmp_path: Path) -> None:
    assert toolbox("--version", cwd=tmp_path).stdout.startswith("toolbox-agent 0.")
    shown = toolbox("--help", cwd=tmp_path)
    assert shown.returncode == 0
    assert "healthcheck" in shown.stdout


def test_help_lists_every_option_with_unit_default_and_variables(
    tmp_path: Path,
) -> None:
    shown = " ".join(toolbox("serve", "--help", cwd=tmp_path).stdout.split())

    for piece in (
        "--host", "TOOLBOX_HOST", "default 127.0.0.1",
        "--port PORT", "TOOLBOX_PORT", "default 2280",
        "TOOLBOX_TOKEN:", "TOOLBOX_SIGNING_KEY:",
        "--result-max-bytes BYTES", "default 268435456",
        "TOOLBOX_SANDBOX_ID or DAYTONA_SANDBOX_ID",
        "TOOLBOX_GRACE_S or DAYTONA_TERMINATION_GRACE_PERIOD",
    ):  # fmt: skip
        assert piece in shown
    assert "--token " not in shown


@pytest.mark.parametrize(
    ("words", "exit_code", "says"),
    [
        (["serve", "--port", "x"], 2, "--port"),
        (["serve", "--host", "0.0.0.0"], 78, "needs a token"),
        (["serve", "--host", "::"], 78, "needs a token"),
        (["serve", "--host", "0.0.0.0", "--no-auth"], 78, "loopback"),
        (["dev", "--host", "0.0.0.0"], 78, "loopback"),
        (["serve", "--token-file", "/no/such"], 2, "/no/such"),
        (["serve", "--token-file", "/dev/null"], 2, "empty"),
        (["serve", "--work-dir", "/no/such"], 2, "/no/such"),
        (["serve", "--state-dir", "/proc/no"], 2, "state dir"),
        (["serve", "--host", "no.such.invalid"], 78, "no.such.invalid"),
        (["serve", "--host", "no.such.invalid", "--trust-network"], 1, "no.such"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(
    tmp_path: Path, words: list[str], exit_code: int, says: str
) -> None:
    ended = toolbox(
        *words, cwd=tmp_path, TOOLBOX_PORT="0" if "--port" not in words else ""
    )

    assert ended.returncode == exit_code
    last = ended.stderr.splitlines()[-1]
    assert says in last
    assert "Traceback" not in ended.stderr


def test_an_unknown_option_is_refused(tmp_path: Path) -> None:
    ended = toolbox("serve", "--nonsense", cwd=tmp_path)

    assert ended.returncode == 2
    assert "--nonsense" in ended.stderr


def test_a_taken_port_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = toolbox("serve", "--port", str(port), cwd=tmp_path)

    assert ended.returncode == 1
    assert str(port) in ended.stderr.splitlines()[-1]
    assert "Starting" not in ended.stdout


@pytest.mark.parametrize("kind", ["open", "link", "file"])
def test_a_state_dir_that_is_not_ours_alone_is_refused(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / kind
    if kind == "open":
        path.mkdir()
        path.chmod(0o777)
    elif kind == "link":
        path.symlink_to(tmp_path)
    else:
        path.touch()

    ended = toolbox("serve", "--port", "0", "--state-dir", str(path), cwd=tmp_path)

    assert ended.returncode == 78
    assert str(path) in ended.stderr


def test_a_token_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(0o700)
    (state / "token").write_text("x\n")
    (state / "token").chmod(0o644)

    ended = toolbox("serve", "--port", "0", "--state-dir", str(state), cwd=tmp_path)

    assert ended.returncode == 78
    assert "read by others" in ended.stderr


def test_healthcheck_without_an_agent_fails_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    ended = toolbox("healthcheck", cwd=tmp_path, TOOLBOX_PORT=str(port))

    assert ended.returncode == 1
    assert one_line(ended.stderr)


def test_the_test_itself_runs_without_the_agents_variables() -> None:
    assert not [name for name in environment() if name.startswith("TOOLBOX_")]
    assert environment(A="b")["A"] == "b"
    assert os.environ.get("PATH") == environment().get("PATH")
