"""A real git server for tests: `git http-backend` behind basic auth, plain or with TLS.

with serving(root, users={"bot": "s3cret"}) as remote:
    remote.create("project", {"a.txt": "one"})
    ... remote.url("project") ...
"""

import base64
import contextlib
import http.server
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

BACKEND = Path(
    subprocess.run(
        ["git", "--exec-path"], check=True, capture_output=True, text=True
    ).stdout.strip(),
    "git-http-backend",
)
ENVIRONMENT = {
    "PATH": os.defpath,
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Setup",
    "GIT_AUTHOR_EMAIL": "setup@example.test",
    "GIT_COMMITTER_NAME": "Setup",
    "GIT_COMMITTER_EMAIL": "setup@example.test",
    "LC_ALL": "C",
}


def git(*words: str, cwd: Path, check: bool = True, **more: str) -> str:
    """Run git as a user would, on a machine without configuration; return its output."""
    done = subprocess.run(
        ["git", "-c", "init.defaultBranch=main", *words],
        cwd=cwd,
        env=ENVIRONMENT | more,
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    if check:
        assert done.returncode == 0, (words, done.stderr.decode())
    return done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")


def fill(directory: Path, files: Mapping[str, str]) -> None:
    """Write files below a directory."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def repository(directory: Path, files: Mapping[str, str] | None = None) -> Path:
    """Make a repository; with files, these are its first commit."""
    directory.mkdir(parents=True)
    git("init", "--quiet", cwd=directory)
    if files:
        fill(directory, files)
        commit(directory, "first")
    return directory


def commit(
    directory: Path, message: str, files: Mapping[str, str] | None = None
) -> str:
    """Commit everything; return the hash."""
    fill(directory, files or {})
    git("add", "--all", cwd=directory)
    git("commit", "--quiet", "--allow-empty", "-m", message, cwd=directory)
    return git("rev-parse", "HEAD", cwd=directory)


class Remote:
    """A running server.

    Attributes:
        root: The bare repositories, as `<name>.git`.
        seen: What came: path and Authorization header of each request.
        before: Called before each request is answered; may answer it itself by True.
    """

    def __init__(self, root: Path, port: int, scheme: str, host: str) -> None:
        self.root = root
        self.port = port
        self.scheme = scheme
        self.host = host
        self.seen: list[tuple[str, str]] = []
        self.before: Callable[[http.server.BaseHTTPRequestHandler], bool] = lambda _: (
            False
        )

    @property
    def base(self) -> str:
        """The server's address."""
        return f"{self.scheme}://{self.host}:{self.port}"

    def url(self, name: str) -> str:
        """Return the address of a repository."""
        return f"{self.base}/{name}.git"

    def bare(self, name: str) -> Path:
        """Return the directory of a repository."""
        return self.root / f"{name}.git"

    def create(self, name: str, files: Mapping[str, str] | None = None) -> str:
        """Make a repository; return the hash of its first commit, if it has files."""
        bare = self.bare(name)
        bare.mkdir(parents=True)
        git("init", "--quiet", "--bare", cwd=bare)
        git("config", "http.receivepack", "true", cwd=bare)
        git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=bare)
        return self.commit(name, "first", files) if files else ""

    def commit(
        self,
        name: str,
        message: str,
        files: Mapping[str, str],
        branch: str = "main",
    ) -> str:
        """Add a commit to a branch on the server; return its hash."""
        work = self.root / f"work-{name}"
        if not work.exists():
            work.mkdir()
            git("init", "--quiet", cwd=work)
            git("remote", "add", "origin", str(self.bare(name)), cwd=work)
        git("fetch", "--quiet", "origin", cwd=work)
        there = git("branch", "-r", "--list", f"origin/{branch}", cwd=work)
        start = [f"origin/{branch}"] if there else []
        git("checkout", "--quiet", "-B", branch, *start, cwd=work)
        made = commit(work, message, files)
        git("push", "--quiet", "origin", branch, cwd=work)
        return made


class _Handler(http.server.BaseHTTPRequestHandler):
    remote: Remote
    users: Mapping[str, str]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        given = self.headers.get("Authorization", "")
        self.remote.seen.append((self.path, given))
        body = self._body()
        if self.remote.before(self):
            return
        if not self._may(given):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._run_backend(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _may(self, given: str) -> bool:
        if not self.users:
            return True
        words = base64.b64decode(given.removeprefix("Basic ")).decode()
        name, _, password = words.partition(":")
        return name in self.users and self.users[name] == password

    def _run_backend(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        variables = ENVIRONMENT | {
            "GIT_PROJECT_ROOT": str(self.remote.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "tester",
            "REMOTE_ADDR": "127.0.0.1",
        }
        done = subprocess.run(
            [BACKEND], input=body, env=variables, capture_output=True, check=False
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        status = headers.pop("Status", "200 OK").split()[0]
        self.send_response(int(status))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class _Server(http.server.ThreadingHTTPServer):
    # A client that leaves in the middle is what some tests are about.
    def handle_error(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving(
    root: Path,
    *,
    users: Mapping[str, str] | None = None,
    tls: Path | None = None,
    host: str = "127.0.0.1",
) -> Iterator[Remote]:
    """Serve the bare repositories below `root` while inside.

    Args:
        root: Made if it is not there.
        users: Who may, by name and password; none: everybody.
        tls: Where to make a certificate that nobody trusts; none: plain HTTP.
        host: By which name the addresses call the server.
    """
    root.mkdir(parents=True, exist_ok=True)
    handler = type("Handler", (_Handler,), {"users": users or {}})
    server = _Server(("127.0.0.1", 0), handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate(tls))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    port = server.server_address[1]
    remote = Remote(root, port, "https" if tls else "http", host)
    handler.remote = remote  # type: ignore[attr-defined] # set on the class made above
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield remote
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate for this machine that signs itself; return it and its key."""
    directory.mkdir(parents=True, exist_ok=True)
    made, key = directory / "certificate.pem", directory / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
            *("ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-batch"),
            *("-subj", "/CN=localhost", "-addext"),
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            *("-keyout", str(key), "-out", str(made)),
        ],
        check=True,
        capture_output=True,
    )
    return made, key


def remove(directory: Path) -> None:
    """Remove a tree that a test has made large."""
    shutil.rmtree(directory, ignore_errors=True)
