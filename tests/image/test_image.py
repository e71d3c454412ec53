"""The image, made by carrying out the Dockerfile's steps in a clean root, and run.

It takes about a minute and needs root, for namespaces and for debootstrap.
"""

import contextlib
import ctypes
import fcntl
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.image.clean_root import Image, build
from tests.support.agent import ANSWER_LIMIT_S, STOP_LIMIT_S, Answer
from tests.support.processes import children, tree, wait_gone

pytestmark = [
    pytest.mark.agent,
    pytest.mark.root,
    pytest.mark.skipif(
        os.geteuid() != 0, reason="namespaces and debootstrap need root"
    ),
    pytest.mark.timeout(420),
]

ROOT = Path(__file__).parents[2]
PORT = 2280
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
STARTED = b"Starting toolbox server on port 2280"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Make the image; its roots are gigabytes, so they go at once afterwards."""
    directory = tmp_path_factory.mktemp("image")
    try:
        yield build(ROOT / "Dockerfile.sandbox", ROOT, directory)
    finally:
        shutil.rmtree(directory)


@dataclass
class Container:
    """The image's entrypoint, running in namespaces of its own."""

    image: Image
    process: subprocess.Popen[bytes]
    token: str

    @property
    def init(self) -> int:
        """Process 1 of the container, by its number outside."""
        (pid,) = children(self.process.pid)
        return pid

    def connect(self) -> socket.socket:
        """Connect to the agent from inside the container's network."""
        made: list[socket.socket] = []

        def connect() -> None:
            # Changes the thread's network only; what it opens stays there for good.
            with Path(f"/proc/{self.init}/ns/net").open("rb") as namespace:
                assert ctypes.CDLL(None).setns(namespace.fileno(), CLONE_NEWNET) == 0
            raise_loopback()
            made.append(socket.create_connection(("127.0.0.1", PORT), ANSWER_LIMIT_S))

        thread = threading.Thread(target=connect)
        thread.start()
        thread.join()
        assert made, "no connection"
        return made[0]

    def request(
        self, method: str, path: str, body: bytes | None = None, *, auth: bool = True
    ) -> Answer:
        """Make one request."""
        connection = http.client.HTTPConnection("127.0.0.1", PORT)
        connection.sock = self.connect()
        headers = {"Authorization": f"Bearer {self.token}"} if auth else {}
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def execute(self, command: str) -> str:
        """Run a command by the API, and return what it printed."""
        body = json.dumps({"command": command}).encode()
        answer = self.request("POST", "/process/execute", body).json()
        assert answer["exitCode"] == 0, answer
        return str(answer["result"]).strip()

    def run_beside(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a program in the running container, as `docker exec` does."""
        uid, gid, home = self.image.account()
        inside = ["--mount", "--pid", "--net", "--root"]
        enter = ["nsenter", f"--target={self.init}", *inside, "-S", uid, "-G", gid]
        variables = {"HOME": home, **self.image.env}
        set_env = ["/usr/bin/env", "-i", *(f"{k}={v}" for k, v in variables.items())]
        return subprocess.run(
            [*enter, *set_env, *words],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )


def raise_loopback() -> None:
    """Switch on the loopback interface of the thread's network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def start(
    image: Image, command: Sequence[str], env: Mapping[str, str], stderr: int | None
) -> subprocess.Popen[bytes]:
    """Start the image as `docker run` does with this command and these variables."""
    words = [*image.entrypoint, *(command or image.cmd)]
    return subprocess.Popen(
        image.contained(words, dict(env), "--net", "--uts", "--ipc"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
    )


@contextlib.contextmanager
def running(image: Image, *command: str) -> Iterator[Container]:
    """Run the image while inside, with a token."""
    token = secrets.token_hex(16)
    process = start(image, command, {"TOOLBOX_TOKEN": token}, None)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith(STARTED), line
        container = Container(image, process, token)
        container.connect().close()
        yield container
    finally:
        # With process 1 the kernel ends everything that is in the namespace.
        for pid in tree(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def test_without_a_token_it_refuses_to_listen_and_says_why(image: Image) -> None:
    process = start(image, [], {}, subprocess.PIPE)

    out, err = process.communicate(timeout=30)

    assert process.returncode == 78
    assert out == b""
    (line,) = err.decode().splitlines()
    assert "0.0.0.0" in line
    assert "token" in line


def test_it_serves_as_process_1_with_the_users_rights(image: Image) -> None:
    with running(image) as container:
        assert container.request("GET", "/version", auth=False).status == 200
        assert container.request("GET", "/work-dir", auth=False).status == 401
        assert container.request("GET", "/work-dir").json()["dir"] == "/home/daytona"
        assert container.execute("id -un; id -u; echo $HOME; pwd").split() == [
            "daytona",
            "1000",
            "/home/daytona",
            "/home/daytona",
        ]
        assert "bin/toolbox-agent serve" in container.execute(
            "tr '\\0' ' ' < /proc/1/cmdline"
        )


def test_an_uploaded_file_is_there_for_the_next_command(image: Image) -> None:
    content = os.urandom(1 << 20)
    with running(image) as container:
        path = "/files/upload-v2?path=notes/data.bin"
        assert container.request("POST", path, content).status == 200
        found = container.execute("stat -c '%U %s' notes/data.bin")
        back = container.request("GET", "/files/download?path=notes/data.bin").body

    assert found == f"daytona {len(content)}"
    assert back == content


def test_the_tools_of_a_sandbox_are_on_the_path(image: Image) -> None:
    versions = "for each in git rg node npm npx python python3 pip curl ps; do"
    with running(image) as container:
        shown = container.execute(f"{versions} $each --version | sed -n 1p; done")
        node = container.execute("node -p 'process.versions.node'")
        agent = container.execute("command -v toolbox-agent; which -a python3")

    assert len(shown.splitlines()) == 10
    assert int(node.split(".")[0]) >= 24
    # The agent's own Python is not the user's.
    assert agent.splitlines() == [
        "/usr/local/bin/toolbox-agent",
        "/usr/bin/python3",
        "/bin/python3",
    ]


@pytest.mark.parametrize(
    ("language", "name", "server"),
    [("python", "a.py", "ty"), ("typescript", "a.ts", "typescript-native")],
)
def test_fast_language_servers_are_there(
    image: Image, language: str, name: str, server: str
) -> None:
    project = b'{"languageId":"%s","pathToProject":"."}' % language.encode()
    with running(image) as container:
        container.execute(f"printf 'class Greeter {{ }}\\n' > {name}")
        started = container.request("POST", "/lsp/start", project)
        status = container.request("GET", "/lsp/status")
        stopped = container.request("POST", "/lsp/stop", project)

    assert started.status == 200, started.body
    assert status.json()["servers"][0]["server"] == server
    assert stopped.status == 200


def test_commands_cannot_change_the_agent_and_see_no_token(image: Image) -> None:
    with running(image) as container:
        writable = container.execute(
            "find /opt /usr -writable -not -type l | head; true"
        )
        variables = container.execute("env | grep ^TOOLBOX_ | cut -d= -f1")
        everywhere = container.execute(
            f"grep -rls {container.token[:8]}'{container.token[8:]}' /proc/[0-9]*/environ"
            " /proc/[0-9]*/cmdline $HOME; true"
        )

    assert writable == ""
    assert variables == "TOOLBOX_OWNER"  # the tag by which the keeper finds them
    assert everywhere == ""


def test_every_module_of_the_agent_is_compiled_once_and_for_all(image: Image) -> None:
    packages = next(image.root.glob("opt/toolbox-agent/lib/python3*/site-packages"))
    sources = list(packages.rglob("*.py"))
    version = packages.parent.name.removeprefix("python").replace(".", "")

    assert len(sources) > 300
    for source in sources:
        compiled = source.parent / f"__pycache__/{source.stem}.cpython-{version}.pyc"
        # Bit 0: kept by hash; bit 1 is not set: the source is not looked at (PEP 552).
        assert compiled.read_bytes()[4:8] == b"\1\0\0\0", source


def test_the_health_check_tells_a_served_agent_from_none(image: Image) -> None:
    with running(image) as container:
        well = container.run_beside(list(image.healthcheck))
        ill = container.run_beside(
            ["env", "TOOLBOX_PORT=2279", *image.healthcheck],
        )

    assert well.returncode == 0, well.stderr
    assert ill.returncode == 1
    assert "2279" in ill.stderr


def test_the_command_runs_beside_and_sigterm_ends_all(image: Image) -> None:
    script = (
        "echo up > ~/up; trap 'echo asked > ~/asked; exit 0' TERM;"
        " while :; do sleep 60 & wait; done"
    )
    home = image.root / "home/daytona"
    with running(image, "sh", "-c", script) as container:
        container.execute("until [ -s ~/up ]; do sleep 0.02; done")
        container.execute("setsid sleep 600 > /dev/null 2>&1 & disown; true")
        everything = tree(container.process.pid)
        assert len(everything) > 4

        os.kill(container.init, signal.SIGTERM)
        exit_code = container.process.wait(STOP_LIMIT_S)

        assert exit_code == 0
        assert (home / "asked").read_text() == "asked\n"
        assert all(wait_gone(pid) for pid in everything)
