"""A terminal in a real browser: no headers of its own, only an address and subprotocols."""

import contextlib
import http.server
import json
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pty.conftest import environment_token, settle_in
from tests.support.agent import StartAgent
from tests.support.browser import browser_at

PAGE = """<!doctype html><script>
const told = { texts: [], output: "" }
const socket = new WebSocket(%(address)s, %(offers)s)
socket.binaryType = "arraybuffer"
socket.onopen = () => {
  told.protocol = socket.protocol
  told.extensions = socket.extensions
  socket.send("echo $FOO fi''rst; exit 4\\n")
}
socket.onmessage = ({ data }) => {
  if (typeof data === "string") told.texts.push(JSON.parse(data))
  else told.output += new TextDecoder().decode(data)
}
socket.onclose = ({ code, reason, wasClean }) => {
  Object.assign(told, { code, reason, wasClean })
  fetch("/told", { method: "POST", body: JSON.stringify(told) })
}
</script>"""


@contextlib.contextmanager
def page_server(told: queue.Queue[Any]) -> Iterator[http.server.ThreadingHTTPServer]:
    """Serve `page` to a browser, and take what it tells."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = getattr(self.server, "page", "").encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            told.put(json.loads(self.rfile.read(length)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.clients
@pytest.mark.timeout(60)
def test_a_page_opens_a_terminal_by_subprotocols_alone(
    start_agent: StartAgent, tmp_path: Path
) -> None:
    told: queue.Queue[Any] = queue.Queue()
    with page_server(told) as server:
        origin = f"http://127.0.0.1:{server.server_port}"
        agent = start_agent("--allowed-origins", origin)
        settle_in(agent.home)
        address = (
            f"ws://127.0.0.1:{agent.port}/process/pty/create-connect"
            f"?id=page&DAYTONA_SANDBOX_AUTH_KEY={agent.token}"
        )
        offers = [
            "X-Daytona-SDK-Version~0.218.0",
            environment_token({"FOO": "secret ü"}),
            "X-Daytona-Pty-Exit-Control",
        ]
        page = {"address": json.dumps(address), "offers": json.dumps(offers)}
        vars(server)["page"] = PAGE % page
        with browser_at(origin, tmp_path / "profile"):
            found = told.get(timeout=50)

    assert found["protocol"] == "X-Daytona-SDK-Version~0.218.0"
    assert found["extensions"] == ""
    assert [each["status"] for each in found["texts"]] == ["connected", "exited"]
    assert "secret ü first" in found["output"]
    assert (found["code"], found["wasClean"]) == (1011, True)
    assert found["reason"] == '{"exitCode":4,"exitReason":"non-zero exit"}'
    assert "secret" not in agent.log()
