"""Previews in a real browser: what a page may do, and what no page may."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.clients.environments import node_with, tools_path
from tests.dev.previews.apps import KEY, previewed, serving_app
from tests.support.agent import StartAgent
from tests.support.browser import browser_at

pytestmark = [pytest.mark.timeout(120)]
WAIT_S = 60.0
"""For a browser on a busy machine."""

ATTACK = """<!doctype html><script>
const told = { origin: location.origin, href: location.href, cookie: document.cookie }
async function attempt(name, call) {
  try { told[name] = await call() } catch (error) { told[name] = "refused" }
}
function open(url) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url)
    socket.onopen = () => resolve("opened")
    socket.onerror = reject
  })
}
async function main() {
  const form = { method: "POST", mode: "no-cors", credentials: "include" }
  for (const base of %(bases)s) {
    const read = (init) => async () => (await fetch(base + "/version", init)).status
    await attempt("read " + base, read({}))
    await attempt("read as you " + base, read({ credentials: "include" }))
    const headers = { "X-Daytona-Preview-Token": "guess" }
    await attempt("read with a header " + base, read({ headers }))
    const body = JSON.stringify({ command: "touch reached" })
    // What it does is looked at; its answer is hidden from the page either way.
    await attempt("post", () => fetch(base + "/process/execute", { ...form, body }))
    delete told.post
    const address = base.replace("http", "ws") + "/process/pty/create-connect?id=reached"
    await attempt("socket " + base, () => open(address))
  }
  await attempt("other app", async () => {
    return (await fetch(%(other)s, { credentials: "include" })).status
  })
  await attempt("own", async () => (await fetch("/asked")).status)
  await fetch("/told", { method: "POST", body: JSON.stringify(told) })
}
main()
</script>"""


@pytest.mark.parametrize("options", [[], ["--no-auth"]], ids=["token", "no token"])
def test_page_of_an_app_reaches_its_own_origin_and_nothing_of_the_agents(
    start_agent: StartAgent, tmp_path: Path, options: list[str]
) -> None:
    dev = previewed(start_agent, *options)
    with serving_app() as other, serving_app() as app:
        # The browser has been at the other app, and has its cookie.
        other.page = f"<script>location = {json.dumps(dev.keyed(app.port))}</script>"
        bases = [
            dev.agent.url,
            dev.plane.removesuffix("/api"),
            f"{dev.plane}/toolbox/{dev.name}/toolbox",
            dev.url(2280),
            dev.url(dev.agent.port),
            f"{dev.listener}/toolbox/{dev.name}",
        ]
        app.page = ATTACK % {
            "bases": json.dumps(bases),
            "other": json.dumps(dev.url(other.port) + "/asked"),
        }
        with browser_at(dev.keyed(other.port), tmp_path / "profile"):
            told = app.told.get(timeout=WAIT_S)

    assert told.pop("origin") == dev.url(app.port)
    assert told.pop("href") == dev.url(app.port) + "/"
    assert told.pop("cookie") == "of-the-app=1"
    assert told.pop("own") == 200
    assert len(told) == 4 * len(bases) + 1
    assert set(told.values()) == {"refused"}, told
    assert not list(dev.agent.work_dir.rglob("reached"))
    assert dev.terminals() == []
    for text in app.asked + other.asked:
        assert "daytona" not in text.lower()
        assert KEY not in text
        assert dev.token(app.port) not in text


def test_no_page_of_an_app_has_the_agents_origin_where_no_token_is_asked_for(
    start_agent: StartAgent,
) -> None:
    dev = previewed(start_agent, "--no-auth")
    with serving_app() as app:
        path = f"/proxy/{app.port}/asked"
        browsers = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}

        refused = dev.agent.request("GET", path, headers=browsers, auth=False)
        assert refused.status == 403
        assert dev.agent.request("GET", path, auth=False).status == 200


LIVE = """<!doctype html><script>
const told = { events: [] }
const source = new EventSource("/events")
source.onmessage = async ({ data }) => {
  told.events.push(data)
  if (told.events.length < 3) return
  source.close()
  told.asked = await (await fetch("/asked")).text()
  told.cookie = document.cookie
  await fetch("/told", { method: "POST", body: JSON.stringify(told) })
}
</script>"""


def test_signed_address_shows_a_page_with_events_and_cookies_of_its_own(
    start_agent: StartAgent, tmp_path: Path
) -> None:
    dev = previewed(start_agent)
    with serving_app(LIVE) as app:
        path = f"/sandbox/{dev.name}/ports/{app.port}/signed-preview-url"
        signed = dev.ask("GET", path)
        with browser_at(dev.url(app.port, signed["token"]) + "/", tmp_path / "profile"):
            told = app.told.get(timeout=WAIT_S)

    assert told["events"] == ["0", "1", "2"]
    assert "Cookie: of-the-app=1\n" in told["asked"].replace("\r", "")
    assert told["cookie"] == "of-the-app=1"


READER = """<!doctype html><script>
async function status(url, init) {
  try { return (await fetch(url, init)).status } catch (error) { return "refused" }
}
async function main() {
  const shown = { "X-Daytona-Preview-Token": %(token)s, "Content-Type": "text/x" }
  const init = { headers: shown, credentials: "include" }
  const told = {
    known: await status(%(url)s, init),
    posted: await status(%(url)s + "/told", { ...init, method: "POST", body: "{}" }),
    signed: await status(%(signed)s),
    nothing: await status(%(url)s),
    wrong: await status(%(url)s, { headers: { "X-Daytona-Preview-Token": "wrong" } }),
  }
  await fetch("/told", { method: "POST", body: JSON.stringify(told) })
}
main()
</script>"""


def test_page_of_another_origin_reads_a_preview_with_its_token_and_not_without(
    start_agent: StartAgent, tmp_path: Path
) -> None:
    dev = previewed(start_agent)
    with serving_app() as reader, serving_app() as app:
        path = f"/sandbox/{dev.name}/ports/{app.port}/signed-preview-url"
        signed = dev.url(app.port, dev.ask("GET", path)["token"])
        reader.page = READER % {
            "token": json.dumps(dev.token(app.port)),
            "url": json.dumps(dev.url(app.port)),
            "signed": json.dumps(signed),
        }
        with browser_at(f"http://127.0.0.1:{reader.port}", tmp_path / "profile"):
            told = reader.told.get(timeout=WAIT_S)

    assert told == {
        "known": 200,
        "posted": 200,
        "signed": 200,
        "nothing": "refused",
        "wrong": "refused",
    }
    assert len(app.asked) == 3


PROJECT = {
    "index.html": """<!doctype html>
<script>
  window.sockets = []
  const Real = WebSocket
  window.WebSocket = class extends Real {
    constructor(url, protocols) {
      super(url, protocols)
      this.addEventListener("open", () => window.sockets.push([url, this.protocol]))
    }
  }
</script>
<script type="module" src="/main.js"></script>
""",
    "main.js": """
import { value } from "./value.js"
const load = Math.random()
async function tell(value) {
  const body = JSON.stringify({ value, load, sockets: window.sockets })
  await fetch(%(told)s, { method: "POST", mode: "no-cors", body })
}
import.meta.hot.accept("./value.js", (fresh) => tell(fresh.value))
import.meta.hot.on("vite:ws:connect", () => tell("connected"))
tell(value)
""",
    "value.js": 'export const value = "first"\n',
}


def free_port() -> int:
    """Return a port that nobody has just now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.mark.clients
@pytest.mark.timeout(280)
def test_vite_reloads_a_changed_module_through_the_preview(
    start_agent: StartAgent, tmp_path: Path
) -> None:
    vite = node_with("vite", "8.3.8") / "node_modules" / "vite" / "bin" / "vite.js"
    dev = previewed(start_agent)
    work, port = dev.agent.work_dir, free_port()
    with serving_app() as ear:
        for name, text in PROJECT.items():
            told_at = json.dumps(f"http://127.0.0.1:{ear.port}/told")
            (work / name).write_text(text.replace("%(told)s", told_at))
        command = f"node {vite} --strictPort --port {port}"
        started = dev.agent.execute(
            f"{command} >vite.log 2>&1 & until grep -q ready vite.log; do sleep .05; done",
            envs={"PATH": tools_path()},
            timeout=60,
        )
        assert started.json()["exitCode"] == 0, (work / "vite.log").read_text()
        with browser_at(dev.keyed(port), tmp_path / "profile"):
            seen: list[Any] = [ear.told.get(timeout=WAIT_S) for _ in range(2)]
            (work / "value.js").write_text('export const value = "second"\n')
            seen.append(ear.told.get(timeout=WAIT_S))

    assert {each["value"] for each in seen[:2]} == {"first", "connected"}
    assert seen[2]["value"] == "second"
    assert len({each["load"] for each in seen}) == 1
    (url, protocol), *_ = seen[2]["sockets"]
    assert url.startswith(dev.url(port).replace("http", "ws"))
    assert protocol == "vite-hmr"
