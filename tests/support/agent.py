"""Starts real agents for tests, talks to them, and sees that they leave nothing behind.

    with running(tmp_path) as agent:
        assert agent.request("GET", "/work-dir").json()["dir"] == str(agent.work_dir)

or, in a test, the fixtures `agent` (one, started) and `start_agent` (a function that
starts more, each with options of its own). Everything here blocks: a coroutine calls it
by `asyncio.to_thread`, or uses `agent.url` and `agent.auth` with a client of its own.
"""

import contextlib
import http.client
import itertools
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.measuring import KEEPING_SITE, is_measured, measuring
from tests.support.processes import alive, children, end_all, tagged, tree

PROGRAM = str(Path(sys.executable).with_name("toolbox-agent"))
"""The console script, because `python -m` would put the work dir on the module path."""

TAG = "AGENT_UNDER_TEST"
"""Variable that marks an agent's processes; the agent hands it on like any other."""

ENDING_WITH_US = ("setpriv", "--pdeathsig", "TERM", "--")
"""Has the kernel tell the agent when the test run itself was killed."""

READY = re.compile(r"Starting toolbox server on port (\d+)")
START_LIMIT_S = 8.0
ANSWER_LIMIT_S = 9.0
STOP_LIMIT_S = 9.0
"""The agent's own limit is 8 s (contract 70 §6)."""

Body = bytes | Mapping[str, object] | Sequence[object] | None


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body)


class Agent:
    """One running agent.

    Args:
        root: Directory of its work dir, home, state dir and log, all made here.
        options: Further words of the command line, before `--`.
        entrypoint: The words after `--`.
        command: `serve` or `dev`; empty where the program has it.
        token: The token to use; none: the agent makes its own.
        env: Variables to add to those of the test, without `TOOLBOX_*`, `DAYTONA_*`.
        program: The words that start the agent's command line.
        measured: Count what its processes run for coverage, when a run asks for it. It
            costs memory and time, so a test of either does without.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        root: Path,
        options: Sequence[str] = (),
        *,
        entrypoint: Sequence[str] = (),
        command: str = "serve",
        token: str | None = None,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = (),
        measured: bool = True,
    ) -> None:
        self.work_dir = root / "work"
        self.home = root / "home"
        self.state_dir = root / "state"
        for directory in (self.work_dir, self.home):
            directory.mkdir(parents=True)
        self.tag = secrets.token_hex(8)
        measured = measured and is_measured()
        if not program:
            program = [sys.executable, "-c", KEEPING_SITE] if measured else [PROGRAM]
        variables = {"HOME": str(self.home), TAG: self.tag, **measuring(on=measured)}
        words = [*ENDING_WITH_US, *program, *filter(None, [command]), "--port", "0"]
        words += ["--state-dir", str(self.state_dir)]
        if token is not None:
            file = root / "given-token"
            file.touch(0o600)
            file.write_text(token + "\n")
            words += ["--token-file", str(file)]
        words += [*options, *(["--", *entrypoint] if entrypoint else [])]
        self._given_token = token
        self._log = (root / "agent.log").open("wb")
        self._lines: list[str] = []
        self._line_came = threading.Condition()
        self._closed = False
        self.process = subprocess.Popen(
            words,
            cwd=self.work_dir,
            env=environment(**variables, **(env or {})),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read_output, daemon=True)
        self._reader.start()

    def wait_started(self) -> None:
        """Wait until the agent listens, and learn its port."""
        self.port = int(self.wait_line(READY)[1])

    @property
    def pid(self) -> int:
        """The keeper's process id."""
        return self.process.pid

    @property
    def url(self) -> str:
        """The agent's base address, without a slash at the end."""
        return f"http://{self.host}:{self.port}"

    @property
    def token(self) -> str:
        """The token that callers must show."""
        if self._given_token is not None:
            return self._given_token
        return (self.state_dir / "token").read_text().strip()

    @property
    def auth(self) -> dict[str, str]:
        """The headers that show the token."""
        return {"Authorization": f"Bearer {self.token}"}

    def api_pid(self) -> int:
        """Return the api's process id.

        After one was killed, make a request first: its answer comes from the next.
        """
        found = [pid for pid in children(self.pid) if b"agent.api" in _arguments(pid)]
        assert len(found) == 1, f"{len(found)} api processes\n{self.log()}"
        return found[0]

    def log(self) -> str:
        """Return what the agent wrote to stderr so far."""
        return Path(self._log.name).read_text(errors="replace")

    def output(self) -> str:
        """Return what the agent wrote to stdout so far."""
        with self._line_came:
            return "".join(self._lines)

    def wait_line(
        self, pattern: re.Pattern[str], limit_s: float = START_LIMIT_S
    ) -> re.Match[str]:
        """Wait for a line of stdout that matches, and return the match."""

        def found() -> re.Match[str] | None:
            return next(filter(None, map(pattern.search, self._lines)), None)

        with self._line_came:
            self._line_came.wait_for(lambda: found() or self._closed, limit_s)
            match = found()
        assert match, f"no {pattern.pattern!r} in\n{self.output()}\n{self.log()}"
        return match

    def request(
        self,
        method: str,
        path: str,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        *,
        auth: bool = True,
        limit_s: float = ANSWER_LIMIT_S,
    ) -> Answer:
        """Make one request on a connection of its own; a body not bytes goes as JSON."""
        sent = {**(self.auth if auth else {}), **(headers or {})}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(self.host, self.port, timeout=limit_s)
        with contextlib.closing(connection), self._log_on_failure():
            connection.request(method, path, body, sent)
            return _read(connection.getresponse())

    def execute(self, command: str, **fields: object) -> Answer:
        """Run a command by `POST /process/execute`."""
        return self.request("POST", "/process/execute", {"command": command, **fields})

    @contextlib.contextmanager
    def connection(self, limit_s: float = ANSWER_LIMIT_S) -> Iterator[socket.socket]:
        """Open a plain connection, for bytes that no client would send."""
        address = (self.host, self.port)
        with socket.create_connection(address, timeout=limit_s) as raw:
            yield raw

    def raw(self, request: bytes, method: str = "GET") -> Answer:
        """Send bytes as they are and read one answer (`method` HEAD has no body)."""
        with self.connection() as connection:
            connection.sendall(request)
            return read_answer(connection, method)

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """Stop the agent, see that nothing is left of it, and return its exit code."""
        seen = {self.pid, *tree(self.pid)}
        try:
            if self.process.poll() is None:
                self.process.send_signal(signum)
            exit_code = self.process.wait(STOP_LIMIT_S)
            left = [pid for pid in seen | tagged(TAG, self.tag) if alive(pid)]
            names = [f"{pid} {_arguments(pid)!r}" for pid in left]
            assert not left, f"left behind: {names}\n{self.log()}"
        finally:
            self.destroy()
        return exit_code

    def destroy(self) -> None:
        """End whatever there is of the agent, at once and without asking."""
        if self.process.poll() is None:
            # Stopped first, so that it starts nothing while its children are ended.
            self.process.send_signal(signal.SIGSTOP)
            end_all(tree(self.pid))
            self.process.kill()
            self.process.wait()
        end_all(tagged(TAG, self.tag))
        self._reader.join(STOP_LIMIT_S)
        self._log.close()

    @contextlib.contextmanager
    def _log_on_failure(self) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            error.add_note(self.log()[-4000:])
            raise

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                with self._line_came:
                    self._lines.append(line.decode(errors="replace"))
                    self._line_came.notify_all()
        with self._line_came:
            self._closed = True
            self._line_came.notify_all()


StartAgent = Callable[..., Agent]
"""Takes the arguments of `Agent` but the first."""


@contextlib.contextmanager
def starting(root: Path) -> Iterator[StartAgent]:
    """Give a function that starts agents under `root`; all are stopped at the end."""
    numbers = itertools.count(1)
    with contextlib.ExitStack() as stack:

        def start(*options: str, **arguments: Any) -> Agent:
            arguments.setdefault("options", options)
            agent = Agent(root / f"agent-{next(numbers)}", **arguments)
            stack.callback(_stop_if_running, agent)
            agent.wait_started()
            return agent

        yield start


@contextlib.contextmanager
def running(root: Path, *options: str, **arguments: Any) -> Iterator[Agent]:
    """Run one agent under `root` while inside."""
    with starting(root) as start:
        yield start(*options, **arguments)


def environment(**more: str) -> dict[str, str]:
    """Return the test's own environment without the agent's variables, and with `more`."""
    ours = ("TOOLBOX_", "DAYTONA_", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | more


def read_answer(connection: socket.socket, method: str = "GET") -> Answer:
    """Read one whole answer from a plain connection."""
    response = http.client.HTTPResponse(connection, method=method)
    response.begin()
    return _read(response)


def _read(response: http.client.HTTPResponse) -> Answer:
    with response:
        return Answer(response.status, response.headers, response.read())


def _stop_if_running(agent: Agent) -> None:
    """Stop an agent that its test has not stopped; one that died of itself is no error."""
    if agent.process.poll() is None:
        agent.stop()
    else:
        agent.destroy()


def _arguments(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
