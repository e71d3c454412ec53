"""A language server that misbehaves as it is told; a program, standard library only.

The file `fake.json` in its project says how it begins: `{"initialize": "crash"}`. What it
does when it is asked for completions stands in the first line of the document: `do: junk`.
All that it hears goes to `heard.jsonl` in the project's parent, which no test's project is.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

OUT = sys.stdout.buffer
HEARD = Path.cwd().parent / "heard.jsonl"


def send(message: dict[str, Any]) -> None:
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    raw(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))


def raw(content: bytes) -> None:
    OUT.write(content)
    OUT.flush()


def receive() -> dict[str, Any] | None:
    length = 0
    while line := sys.stdin.buffer.readline():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        if not line.strip() and length:
            message: dict[str, Any] = json.loads(sys.stdin.buffer.read(length))
            with HEARD.open("a") as file:
                file.write(json.dumps({"pid": os.getpid(), **message}) + "\n")
            return message
    return None


def item(label: str, **more: object) -> dict[str, Any]:
    return {"label": label, **more}


def crash(_number: object, _rest: str) -> None:
    sys.stderr.write("fatal: told to\n")
    sys.stderr.flush()
    os._exit(3)


def kill(_number: object, _rest: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def junk(number: object, _rest: str) -> None:
    raw(b"Loading plug-ins...\nwarning: x\n\n")
    send({"id": number, "result": [item("after junk")]})


def endless(_number: object, _rest: str) -> None:
    while True:
        raw(b"x" * 65536)


def huge(_number: object, _rest: str) -> None:
    raw(b"Content-Length: 2147483648\r\n\r\n{")
    time.sleep(60)


def garbage(_number: object, _rest: str) -> None:
    raw(b"Content-Length: 5\r\n\r\n{]{]{")
    time.sleep(60)


def twice(number: object, _rest: str) -> None:
    send({"id": number, "result": [item("first")]})
    send({"id": number, "result": [item("second")]})


def bytes_of(number: object, rest: str) -> None:
    """Answer with these bytes, escaped as in Python, under an unusual header."""
    result = rest.encode("latin-1").decode("unicode_escape").encode("latin-1")
    body = b'{"jsonrpc":"2.0","id":%s,"result":%s}' % (
        json.dumps(number).encode(),
        result,
    )
    raw(b"content-length: %d\r\nX-Other: y\r\n\r\n%s" % (len(body), body))


def fail(number: object, _rest: str) -> None:
    send({"id": number, "error": {"code": -32603, "message": "it\nfailed"}})


def sleep(number: object, rest: str) -> None:
    time.sleep(float(rest))
    send({"id": number, "result": [item("late")]})


def many(number: object, rest: str) -> None:
    items = [item(f"name_{each}", kind=3, detail="d") for each in range(int(rest))]
    send({"id": number, "result": {"isIncomplete": False, "items": items}})


def ask(number: object, method: str) -> None:
    """Ask the client something under the id of its own request, and tell the answer."""
    params = {"items": [{"section": "a"}, {"section": "b"}]}
    send({"id": 1, "method": method, "params": params})
    while (message := receive()) is not None:
        if message.get("id") == 1 and "method" not in message:
            kept = {key: message[key] for key in ("result", "error") if key in message}
            send({"id": number, "result": [item(json.dumps(kept, sort_keys=True))]})
            return


DEEDS: dict[str, Callable[[Any, str], None]] = {
    "ask": ask,
    "crash": crash,
    "endless": endless,
    "error": fail,
    "garbage": garbage,
    "huge": huge,
    "junk": junk,
    "kill": kill,
    "many": many,
    "never": lambda _number, _rest: None,
    "nothing": lambda number, _rest: send({"id": number}),
    "null": lambda number, _rest: send({"id": number, "result": None}),
    "raw": bytes_of,
    "sleep": sleep,
    "twice": twice,
}


class Server:
    """What it was told, and what it does of each message."""

    # ruff: noqa: D102 - each `on_…` answers the message of that name

    def __init__(self, how: dict[str, Any]) -> None:
        self.how = how
        self.texts: dict[str, str] = {}
        self.leaving = False

    def begin(self) -> None:
        """Start the children it is to have."""
        if self.how.get("children"):
            # One in our session, and one that has left it.
            subprocess.Popen(["sleep", "1000"])
            subprocess.Popen(["sleep", "1000"], start_new_session=True)
        if self.how.get("ignores"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def take(self, message: dict[str, Any]) -> None:
        """Answer one message, if it is to be answered."""
        method, number = str(message.get("method", "")), message.get("id")
        params = message.get("params") or {}
        name = method.rpartition("/")[2]
        if (act := getattr(self, f"on_{name}", None)) is not None:
            act(number, params)
        elif method in self.how.get("answers", {}):
            send({"id": number, "result": self.how["answers"][method]})
        elif number is not None:
            send({"id": number, "error": {"code": -32601, "message": f"no {method}"}})

    def on_initialize(self, number: object, _params: Any) -> None:
        if deed := self.how.get("initialize", ""):
            DEEDS[deed](number, "")
            return
        capabilities = self.how.get("capabilities", {"completionProvider": {}})
        send({"id": number, "result": {"capabilities": capabilities}})

    def on_didOpen(self, _number: object, params: Any) -> None:  # noqa: N802
        self.texts[params["textDocument"]["uri"]] = params["textDocument"]["text"]

    def on_didChange(self, _number: object, params: Any) -> None:  # noqa: N802
        text = params["contentChanges"][0]["text"]
        self.texts[params["textDocument"]["uri"]] = text

    def on_didClose(self, _number: object, params: Any) -> None:  # noqa: N802
        self.texts.pop(params["textDocument"]["uri"], None)

    def on_completion(self, number: object, params: Any) -> None:
        text = self.texts[params["textDocument"]["uri"]]
        first = text.partition("\n")[0]
        if not first.startswith("do: "):
            send({"id": number, "result": [item(text)]})
            return
        word, _, rest = first.removeprefix("do: ").partition(" ")
        DEEDS[word](number, rest)

    def on_shutdown(self, number: object, _params: Any) -> None:
        if not self.how.get("ignores"):
            send({"id": number, "result": None})

    def on_exit(self, _number: object, _params: Any) -> None:
        self.leaving = not self.how.get("ignores")


def main() -> None:
    file = Path("fake.json")
    server = Server(json.loads(file.read_text()) if file.exists() else {})
    server.begin()
    while not server.leaving and (message := receive()) is not None:
        server.take(message)
    while server.how.get("ignores"):
        time.sleep(60)


if __name__ == "__main__":
    main()
