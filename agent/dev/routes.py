"""The route table of the stand-in control plane, and what it opens.

The paths are relative to `/api` on the dev port (contract 70 §12). They are answered by
a dispatcher of their own (`front.py`), so no path of theirs exists on the agent's port.
"""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from agent.dev.events import Events
from agent.dev.models import (
    Configuration,
    CreateRequest,
    Labels,
    Lifetime,
    Listing,
    Minutes,
    PreviewUrl,
    Sandbox,
    SignedPreviewUrl,
    SshAccess,
    SshAccessCheck,
    Url,
)
from agent.dev.previews.addresses import Addresses, knows_localhost_names
from agent.dev.previews.tokens import Tokens
from agent.dev.previews.visits import Doorkeeper
from agent.dev.sandboxes import Sandboxes
from agent.registry import KEEPER, SETTINGS
from agent.system.environment import Environment
from agent.web.query import parse_query
from agent.web.routes import Routes
from agent.web.server import DISPATCHER
from agent.web.websockets import WEBSOCKETS

routes = Routes("control plane")

SANDBOXES = web.AppKey("sandboxes", Sandboxes)
EVENTS = web.AppKey("events", Events)
ADDRESSES = web.AppKey("addresses", Addresses)
DOORKEEPER = web.AppKey("doorkeeper", Doorkeeper)

SIGNED_LIFETIME_S = 60
"""What SDKs promise of an address that was made without saying for how long."""
SOURCE_HEADER = "X-Daytona-Source"


async def context(app: web.Application) -> AsyncIterator[None]:
    """Open the one sandbox, its previews, and the events that tell of it."""
    settings, keeper = app[SETTINGS], app[KEEPER]
    tokens = Tokens(settings, keeper)
    await tokens.open()
    app[EVENTS] = Events()
    named = await asyncio.to_thread(knows_localhost_names)
    app[ADDRESSES] = Addresses(settings, named=named)
    app[DOORKEEPER] = Doorkeeper(settings, app[ADDRESSES], tokens)
    app[SANDBOXES] = Sandboxes(
        settings, Environment(keeper), app[EVENTS].publish, app[ADDRESSES], tokens
    )
    yield


@routes.post("/sandbox", errors=(400,))
async def create(request: web.Request, body: CreateRequest) -> Sandbox:
    """Start the sandbox; there is one, and every call answers it."""
    return await request.app[SANDBOXES].create(body)


@routes.get("/sandbox", errors=(400,))
async def list_sandboxes(
    request: web.Request,
    labels: str | None = None,
    id: str | None = None,  # noqa: A002 - the wire's name
    name: str | None = None,
) -> Listing | list[Sandbox]:
    """List the sandbox, in the shape of the SDK that asks."""
    states = parse_query(request.rel_url.raw_query_string).get("states", ())
    found = request.app[SANDBOXES].list(
        id_prefix=id or "", name_prefix=name or "", labels=labels or "", states=states
    )
    # The first SDKs name themselves `python-sdk`, all later ones `sdk-python` and so on.
    old = request.headers.get(SOURCE_HEADER, "").endswith("-sdk")
    return found if old else Listing(items=found)


@routes.get("/sandbox/{sandbox_id}", errors=(404,))
async def get(request: web.Request, sandbox_id: str) -> Sandbox:
    """Tell of the sandbox by id or name, after its deletion too."""
    return request.app[SANDBOXES].get(sandbox_id)


@routes.delete("/sandbox/{sandbox_id}", errors=(404,))
async def delete(request: web.Request, sandbox_id: str) -> Sandbox:
    """Call the sandbox destroyed; nothing on this machine is."""
    return await request.app[SANDBOXES].delete(sandbox_id)


@routes.post("/sandbox/{sandbox_id}/start", errors=(404, 409))
async def start(request: web.Request, sandbox_id: str) -> Sandbox:
    """Call the sandbox started."""
    return request.app[SANDBOXES].start(sandbox_id)


@routes.post("/sandbox/{sandbox_id}/stop", errors=(404, 409))
async def stop(request: web.Request, sandbox_id: str) -> Sandbox:
    """Call the sandbox stopped; what runs goes on."""
    return request.app[SANDBOXES].stop(sandbox_id)


@routes.add("PUT", "/sandbox/{sandbox_id}/labels", errors=(400, 404, 409))
async def set_labels(request: web.Request, sandbox_id: str, body: Labels) -> Labels:
    """Replace the labels."""
    return request.app[SANDBOXES].set_labels(sandbox_id, body)


@routes.post("/sandbox/{sandbox_id}/autostop/{minutes}", errors=(400, 404, 409))
async def set_auto_stop(request: web.Request, sandbox_id: str, minutes: str) -> Sandbox:
    """Note after how many idle minutes a platform would stop it."""
    return request.app[SANDBOXES].set_interval(sandbox_id, "autostop", minutes)


@routes.post("/sandbox/{sandbox_id}/autoarchive/{minutes}", errors=(400, 404, 409))
async def set_auto_archive(
    request: web.Request, sandbox_id: str, minutes: str
) -> Sandbox:
    """Note after how many minutes of stop a platform would archive it."""
    return request.app[SANDBOXES].set_interval(sandbox_id, "autoarchive", minutes)


@routes.post("/sandbox/{sandbox_id}/autodelete/{minutes}", errors=(400, 404, 409))
async def set_auto_delete(
    request: web.Request, sandbox_id: str, minutes: str
) -> Sandbox:
    """Note after how many minutes of stop a platform would delete it; -1: never."""
    return request.app[SANDBOXES].set_interval(sandbox_id, "autodelete", minutes)


@routes.post("/sandbox/{sandbox_id}/autopause/{minutes}", errors=(400, 404, 409))
async def set_auto_pause(
    request: web.Request, sandbox_id: str, minutes: str
) -> Sandbox:
    """Note after how many idle minutes a platform would pause it."""
    return request.app[SANDBOXES].set_interval(sandbox_id, "autopause", minutes)


@routes.post("/sandbox/{sandbox_id}/ttl/{minutes}", errors=(400, 404, 409))
async def set_ttl(request: web.Request, sandbox_id: str, minutes: str) -> Sandbox:
    """Note after how many minutes a platform would destroy it; 0: never."""
    return request.app[SANDBOXES].set_interval(sandbox_id, "ttl", minutes)


@routes.post("/sandbox/{sandbox_id}/last-activity", status=201, errors=(404,))
async def touch(request: web.Request, sandbox_id: str) -> None:
    """Note that the sandbox is in use."""
    request.app[SANDBOXES].get(sandbox_id)
    request.app[SANDBOXES].touch()


@routes.get("/sandbox/{sandbox_id}/toolbox-proxy-url", errors=(404,))
async def toolbox_url(request: web.Request, sandbox_id: str) -> Url:
    """Tell where the toolbox is."""
    return request.app[SANDBOXES].toolbox_url(sandbox_id)


@routes.get("/sandbox/{sandbox_id}/signing-key", errors=(404,))
async def signing_key(request: web.Request, sandbox_id: str) -> str:
    """Tell the key of signed file URLs."""
    return request.app[SANDBOXES].signing_key(sandbox_id)


@routes.get("/sandbox/{sandbox_id}/ports/{port}/preview-url", errors=(400, 404))
async def preview(request: web.Request, sandbox_id: str, port: str) -> PreviewUrl:
    """Tell where a port of the sandbox is."""
    return request.app[SANDBOXES].preview(sandbox_id, port)


@routes.get(
    "/sandbox/{sandbox_id}/ports/{port}/signed-preview-url", errors=(400, 404, 409, 429)
)
async def sign_preview(
    request: web.Request,
    sandbox_id: str,
    port: str,
    expires_in_seconds: Lifetime = SIGNED_LIFETIME_S,
) -> SignedPreviewUrl:
    """Make an address that opens a port of the sandbox by itself."""
    return await request.app[SANDBOXES].sign_preview(
        sandbox_id, port, expires_in_seconds
    )


@routes.post(
    "/sandbox/{sandbox_id}/ports/{port}/signed-preview-url/{token}/expire",
    errors=(400, 404),
)
async def expire_preview(
    request: web.Request, sandbox_id: str, port: str, token: str
) -> None:
    """Let such an address open nothing any more."""
    await request.app[SANDBOXES].expire_preview(sandbox_id, port, token)


@routes.post("/sandbox/{sandbox_id}/public/{is_public}", errors=(400, 404, 409))
async def set_public(request: web.Request, sandbox_id: str, is_public: str) -> Sandbox:
    """Let the previews be opened without a token, or not."""
    return request.app[SANDBOXES].set_public(sandbox_id, is_public)


@routes.post("/sandbox/{sandbox_id}/ssh-access", errors=(400, 404, 409, 429))
async def create_ssh_access(
    request: web.Request, sandbox_id: str, expires_in_minutes: Minutes | None = None
) -> SshAccess:
    """Make a token for SSH."""
    return request.app[SANDBOXES].create_ssh_access(sandbox_id, expires_in_minutes)


@routes.delete("/sandbox/{sandbox_id}/ssh-access", errors=(404,))
async def revoke_ssh_access(
    request: web.Request, sandbox_id: str, token: str | None = None
) -> Sandbox:
    """Forget a token for SSH; none named: all."""
    return request.app[SANDBOXES].revoke_ssh_access(sandbox_id, token)


@routes.get("/sandbox/ssh-access/validate", errors=(400,))
async def check_ssh_access(request: web.Request, token: str) -> SshAccessCheck:
    """Tell whether a token for SSH holds."""
    return request.app[SANDBOXES].check_ssh_access(token)


@routes.get("/config")
async def configuration(request: web.Request) -> Configuration:
    """Tell what an SDK may ask of the installation as a whole."""
    return request.app[SANDBOXES].configuration()


@routes.get("/socket.io", public=True, websocket="only", errors=(400, 429))
async def follow_events(request: web.Request) -> web.WebSocketResponse:
    """Send the sandbox's events over Socket.IO.

    Public, because the SDKs show their key only once the socket is open.
    """
    events = request.app[EVENTS]
    events.check_room()
    socket = await request.app[WEBSOCKETS].accept(request)
    await events.serve(socket, request.app[DISPATCHER].guard.accepts)
    request.app[WEBSOCKETS].forget(socket)
    return socket


NOT_STOOD_IN = (
    ("GET", "/sandbox/{sandbox_id}/telemetry/metrics", "keep a history of metrics"),
    ("GET", "/sandbox/{sandbox_id}/telemetry/logs", "keep telemetry"),
    ("GET", "/sandbox/{sandbox_id}/telemetry/traces", "keep telemetry"),
    ("POST", "/sandbox/{sandbox_id}/snapshot", "make snapshots"),
    ("POST", "/sandbox/{sandbox_id}/backup", "make backups"),
    ("POST", "/sandbox/{sandbox_id}/fork", "fork a sandbox"),
    ("POST", "/sandbox/{sandbox_id}/pause", "pause a sandbox"),
    ("POST", "/sandbox/{sandbox_id}/archive", "archive a sandbox"),
    ("POST", "/sandbox/{sandbox_id}/recover", "recover a sandbox"),
    ("POST", "/sandbox/{sandbox_id}/resize", "resize a sandbox"),
    ("POST", "/sandbox/{sandbox_id}/network-settings", "limit the network"),
    ("PUT", "/sandbox/{sandbox_id}/secrets", "mount secrets"),
    ("POST", "/sandbox/{sandbox_id}/signing-key/rotate", "change the signing key"),
    ("GET", "/snapshots", "make snapshots"),
    ("POST", "/snapshots", "make snapshots"),
    ("GET", "/volumes", "mount volumes"),
    ("POST", "/volumes", "mount volumes"),
)
"""What SDKs may ask of a control plane and nobody here does: method, path, deed."""


def _declare_missing(method: str, path: str, deed: str) -> None:
    """Add a route that says in a typed error what is not done."""

    # Path segments by the only names that the table above has for them.
    async def missing(
        sandbox_id: str = "",  # noqa: ARG001 - whichever sandbox it is
        detail: str = "",  # noqa: ARG001 - and whatever of it
    ) -> None:
        raise web.HTTPNotImplemented(reason=f"the dev stand-in cannot {deed}")

    missing.__doc__ = f"Say that nobody here can {deed}."
    routes.add(method, path, errors=(501,))(missing)


for _row in NOT_STOOD_IN:
    _declare_missing(*_row)
