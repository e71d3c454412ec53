"""A server of the sandbox's: answers with what it was asked, and says its port in a file."""

import http.server
import json
from pathlib import Path


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the path and the headers that came."""

    def do_GET(self) -> None:
        """Answer."""
        headers = {name.lower(): text for name, text in self.headers.items()}
        body = json.dumps({"path": self.path, "headers": headers}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
    # Moved into place, so that whoever sees the file sees all of it.
    Path("port.new").write_text(str(server.server_port))
    Path("port.new").rename("port")
    server.serve_forever()
