"""Apps of a sandbox to be previewed, and a browser that shows them."""

import contextlib
import http.client
import http.server
import json
import queue
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from agent.dev.previews.addresses import name_of
from tests.support.agent import Agent, StartAgent

PREVIEWS = re.compile(r"previews\s+(http://\S+)")
CONTROL_PLANE = re.compile(r"control plane\s+(http://\S+)")
STREAM_LIMIT_S = 20.0
KEY = "DAYTONA_SANDBOX_AUTH_KEY"


@dataclass
class App:
    """A server of the test's own that shows one page and remembers all that it was asked."""

    page: str = ""
    asked: list[str] = field(default_factory=list)
    told: "queue.Queue[Any]" = field(default_factory=queue.Queue)
    port: int = 0


class AppServer(http.server.ThreadingHTTPServer):
    """Serves an app on a free port."""

    def __init__(self, app: App) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.app = app
        app.port = self.server_port


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the app."""

    server: AppServer

    def do_GET(self) -> None:
        """Answer with the page, with events, or with what was asked."""
        app = self.server.app
        app.asked.append(f"{self.path}\n{self.headers}")
        if self.path == "/events":
            self.send_events()
        elif self.path == "/asked":
            self.answer("text/plain", str(self.headers))
        else:
            self.answer("text/html; charset=utf-8", app.page)

    def do_POST(self) -> None:
        """Take what the page tells."""
        app = self.server.app
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        app.asked.append(f"{self.path}\n{self.headers}\n{body}")
        self.answer("text/plain", "")
        app.told.put(json.loads(body))

    def answer(self, kind: str, text: str) -> None:
        """Answer with a text, and a cookie of the app's own."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.send_header("Set-Cookie", "of-the-app=1; Path=/")
        self.end_headers()
        self.wfile.write(text.encode())

    def send_events(self) -> None:
        """Send three events; the connection stays open until the client goes."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for number in range(3):
            self.wfile.write(f"data: {number}\n\n".encode())
        # Nothing more comes: what was sent must not wait for it.
        self.connection.settimeout(STREAM_LIMIT_S)
        with contextlib.suppress(OSError):
            self.rfile.read(1)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving_app(page: str = "") -> Iterator[App]:
    """Serve an app while inside."""
    app = App(page)
    with AppServer(app) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield app
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Previewed:
    """An agent of the dev command, and where its other two listeners are."""

    agent: Agent
    plane: str
    listener: str

    @property
    def port(self) -> int:
        """The preview listener's port."""
        return int(self.listener.rpartition(":")[2])

    @property
    def name(self) -> str:
        """The sandbox's name in addresses."""
        return name_of(self.ask("GET", "/sandbox")["items"][0]["id"])

    def url(self, port: int, name: str | None = None) -> str:
        """Return the address that a browser knows a port by."""
        return f"http://{port}-{name or self.name}.localhost:{self.port}"

    @property
    def auth(self) -> dict[str, str]:
        """The headers that show the agent's token, if it asks for one."""
        return self.agent.auth if (self.agent.state_dir / "token").exists() else {}

    def ask(self, method: str, path: str) -> Any:
        """Ask the control plane."""
        place, _, prefix = self.plane.removeprefix("http://").partition("/")
        with contextlib.closing(http.client.HTTPConnection(place)) as connection:
            connection.request(method, f"/{prefix}{path}", headers=self.auth)
            answer = connection.getresponse().read()
        return json.loads(answer) if answer else None

    def terminals(self) -> list[Any]:
        """Return the agent's terminals."""
        answer = self.agent.request(
            "GET", "/process/pty", headers=self.auth, auth=False
        )
        found: list[Any] = answer.json()["sessions"]
        return found

    def token(self, port: int) -> str:
        """Return the token that opens a port."""
        sandbox = self.ask("GET", "/sandbox")["items"][0]["id"]
        path = f"/sandbox/{sandbox}/ports/{port}/preview-url"
        return str(self.ask("GET", path)["token"])

    def keyed(self, port: int) -> str:
        """Return the address of a port with the key that opens it."""
        return f"{self.url(port)}/?{KEY}={self.token(port)}"


def previewed(start_agent: StartAgent, *options: str) -> Previewed:
    """Start an agent with previews."""
    agent = start_agent("--dev-port", "0", *options, command="dev")
    return Previewed(
        agent, agent.wait_line(CONTROL_PLANE)[1], agent.wait_line(PREVIEWS)[1]
    )
