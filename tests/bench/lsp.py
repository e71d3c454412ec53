"""Language servers: what the agent adds to a server's own time, and what servers cost."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.bench.clients import Connection, request
from tests.bench.code_run import median_ms
from tests.bench.measure import MIB, Bench, Case, Row, at_most
from tests.clients.environments import NODE
from tests.lsp.conftest import FAKE, install
from tests.lsp.real_servers import SERVERS
from tests.support.agent import Agent, running

ASKED = 200
MANY = 20_000
FILES = 5_000
CODE = (
    "class Model{0}:\n    limit = {0}\n    def method(self): ...\n\ndef run{0}(): ...\n"
)


class Direct:
    """The fake server, asked by its own pipes."""

    def __init__(self, root: Path) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-I", str(FAKE)],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def tell(self, method: str, params: object, number: int | None = None) -> None:
        """Send a message."""
        said = {"jsonrpc": "2.0", "method": method, "params": params}
        body = json.dumps(said if number is None else {**said, "id": number}).encode()
        assert self._server.stdin is not None
        self._server.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._server.stdin.flush()

    def ask(self, method: str, params: object) -> bytes:
        """Send a request and return its answer."""
        self.tell(method, params, 1)
        assert self._server.stdout is not None
        length = 0
        while line := self._server.stdout.readline():
            if line.strip():
                length = int(line.partition(b":")[2])
                continue
            return self._server.stdout.read(length)
        raise AssertionError("it ended")

    def close(self) -> None:
        """End it."""
        self._server.communicate()


def completion(agent: Agent, name: str, language: str = "python") -> bytes:
    """Return the request for completions at a document's end."""
    body = {
        "languageId": language,
        "pathToProject": "proj",
        "uri": f"file://proj/{name}",
        "position": {"line": 1, "character": 8},
    }
    text = json.dumps(body).encode()
    return request(agent.port, "POST", "/lsp/completions", agent.auth, text)


@contextlib.contextmanager
def served(bench: Bench, directory: Path) -> Iterator[Agent]:
    """Run an agent with the servers of a directory; its project is `proj`."""
    path = os.pathsep.join([str(directory), str(NODE.parent), os.defpath])
    with running(bench.directory(), env={"PATH": path}) as agent:
        agent.request("GET", "/version")
        (agent.work_dir / "proj").mkdir()
        yield agent


def start(agent: Agent, language: str) -> None:
    """Start the server of the project."""
    body = {"languageId": language, "pathToProject": "proj"}
    answer = agent.request("POST", "/lsp/start", body, limit_s=60)
    assert answer.status == 200, answer.body


def overhead(bench: Bench) -> Iterator[Row]:
    """Measure a warm completion, and one of 20 000 items, against the server alone."""
    install(directory := bench.directory())
    with served(bench, directory) as agent:
        for name, text, asked in (
            ("a warm completion", "x\ngreeter.", ASKED),
            ("a completion of 20 000 items", f"do: many {MANY}\n", 5),
        ):
            root = agent.work_dir / "proj"
            (root / "a.py").write_text(text)
            start(agent, "python")
            direct = Direct(root)
            direct.ask("initialize", {})
            document = {"uri": "a", "text": text}
            direct.tell("textDocument/didOpen", {"textDocument": document})
            about = {"textDocument": {"uri": "a"}}
            ours: list[float] = []
            own: list[float] = []
            with Connection(agent.port) as connection:
                message = completion(agent, "a.py")
                for _ in range(bench.rounds):
                    ours.append(median_ms(partial(connection.ask, message), asked))
                    question = partial(direct.ask, "textDocument/completion", about)
                    own.append(median_ms(question, asked))
            direct.close()
            yield Row(
                name=f"p50 of {name}, and the server alone",
                ours=ours,
                limit=own,
                unit="ms",
            )
            yield Row(
                name=f"added to {name}",
                ours=[mine - alone for mine, alone in zip(ours, own, strict=True)],
                unit="ms",
                goal=at_most(1.0) if asked == ASKED else None,
            )


def servers(bench: Bench) -> Iterator[Row]:
    """Measure real servers: start to first completion, warm completion, memory."""
    python = "import os\nos.path."
    script = "const x = [1]\nx.map().x"
    for real in SERVERS:
        name, language, directory = real.name, real.language, real.directory()
        text = python if language == "python" else script
        file = "a.py" if language == "python" else "a.ts"
        first: list[float] = []
        warm: list[float] = []
        memory: list[float] = []
        for _ in range(bench.rounds):
            with served(bench, directory) as agent, Connection(agent.port) as asking:
                (agent.work_dir / "proj" / file).write_text(text)
                message = completion(agent, file, language)
                began = time.perf_counter()
                start(agent, language)
                asking.ask(message)
                first.append((time.perf_counter() - began) * 1000)
                warm.append(median_ms(partial(asking.ask, message), 20))
                status = agent.request("GET", "/lsp/status").json()["servers"][0]
                memory.append(status["memoryBytes"] / MIB)
        yield Row(name=f"{name}: start to first completion", ours=first, unit="ms")
        yield Row(name=f"{name}: p50 of a warm completion", ours=warm, unit="ms")
        yield Row(name=f"{name}: memory", ours=memory, unit="MiB")


def index(bench: Bench) -> Iterator[Row]:
    """Measure our own symbol index: its making, and a question to it."""
    install(directory := bench.directory())
    rates: list[float] = []
    asked: list[float] = []
    for _ in range(bench.rounds):
        with served(bench, directory) as agent:
            root = agent.work_dir / "proj"
            for number in range(FILES):
                (root / f"m{number}.py").write_text(CODE.format(number) * 20)
            start(agent, "python")
            path = (
                "/lsp/workspacesymbols?query=Model&languageId=python&pathToProject=proj"
            )
            took: list[float] = []
            for _ in range(4):
                began = time.perf_counter()
                assert agent.request("GET", path, limit_s=60).status == 200
                took.append(time.perf_counter() - began)
            rates.append(FILES / took[0])
            asked.append(statistics.median(took[1:]) * 1000)
    yield Row(name=f"files indexed, of {FILES}", ours=rates, unit="1/s")
    yield Row(name="p50 of a later question", ours=asked, unit="ms")


CASES = (
    Case(name="lsp", about="a completion, against the server alone", run=overhead),
    Case(name="lsp-servers", about="real language servers", run=servers),
    Case(name="lsp-index", about="the symbol index of Python projects", run=index),
)
