"""The control plane on the wire: shapes that the SDKs insist on, and its failures."""

import json
from typing import Any

import pytest

from agent.dev.routes import NOT_STOOD_IN
from tests.dev.conftest import AUTH, Dev, Variables

REQUIRED_BY_SDKS = {
    "id": str,
    "organizationId": str,
    "name": str,
    "user": str,
    "env": dict,
    "labels": dict,
    "public": bool,
    "networkBlockAll": bool,
    "kvm": bool,
    "target": str,
    "cpu": int,
    "gpu": int,
    "memory": int,
    "disk": int,
    "state": str,
    "toolboxProxyUrl": str,
}


async def call(
    dev: Dev,
    method: str,
    path: str,
    body: object = None,
    status: int = 200,
    source: str = "sdk-python",
) -> Any:
    """Make a request with the token and return its decoded answer."""
    data = None if body is None else json.dumps(body).encode()
    async with dev.client.request(
        method,
        dev.plane + path,
        data=data,
        headers={**AUTH, "X-Daytona-Source": source},
    ) as answer:
        text = await answer.text()
        assert answer.status == status, text
        return json.loads(text) if text else None


async def test_sandbox_has_every_field_that_an_sdk_requires(dev: Dev) -> None:
    sandbox = await call(dev, "GET", "/sandbox/sb-1")

    for name, kind in REQUIRED_BY_SDKS.items():
        assert type(sandbox[name]) is kind, name
    assert None not in sandbox.values()
    assert sandbox["id"] == "sb-1"
    assert sandbox["state"] == "started"
    assert sandbox["toolboxProxyUrl"] == f"{dev.agent}/toolbox"
    assert sandbox["cpu"] >= 1
    assert sandbox["createdAt"].endswith("Z")


async def test_create_answers_the_sandbox_as_asked(
    dev: Dev, variables: Variables
) -> None:
    wanted = {
        "name": "n",
        "env": {"NEW": "2"},
        "labels": {"a": "b"},
        "target": "local",
        "snapshot": "s",
        "autoStopInterval": 3,
        "ttlMinutes": 5,
        "volumes": [],
        "networkBlockAll": False,
        "unknown": 1,
    }

    created = await call(dev, "POST", "/sandbox", wanted)

    assert created["id"] == "sb-1"
    assert created["state"] == "started"
    for name in ("name", "env", "labels", "target", "snapshot", "autoStopInterval"):
        assert created[name] == wanted[name]
    assert "autoDestroyAt" in created
    assert await call(dev, "GET", "/sandbox/n") == created
    assert variables.held == {"OLD": "1", "NEW": "2"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"buildInfo": {"dockerfileContent": "FROM x"}}, "cannot build an image"),
        ({"volumes": [{"volumeId": "v"}]}, "cannot mount volumes"),
        ({"secrets": [{"A": "b"}]}, "cannot mount secrets"),
        ({"networkBlockAll": True}, "cannot block the network"),
        ({"networkAllowList": "10.0.0.0/8"}, "cannot limit the network"),
        ({"user": "somebody-else"}, "cannot become somebody-else"),
        ({"labels": {"code-toolbox-language": "cobol"}}, "must be one of python"),
        ({"labels": {"a": 1}}, "invalid request body"),
        ({"ttlMinutes": 10**30}, "invalid request body"),
        ({"autoStopInterval": -2}, "invalid request body"),
    ],
)
async def test_create_refuses_what_nobody_here_does(
    dev: Dev, variables: Variables, body: dict[str, object], words: str
) -> None:
    told = await call(dev, "POST", "/sandbox", {"env": {"N": "1"}, **body}, 400)

    assert told["error"] == "Bad Request"
    assert words in told["message"]
    assert variables.held == {"OLD": "1"}


async def test_list_has_the_shape_of_the_sdk_that_asks(dev: Dev) -> None:
    old = await call(dev, "GET", "/sandbox?labels=null", source="python-sdk")
    new = await call(dev, "GET", "/sandbox", source="sdk-python-async")

    assert [each["id"] for each in old] == ["sb-1"]
    assert new == {"items": old, "nextCursor": None}
    assert await call(dev, "GET", "/sandbox", source="") == new


async def test_list_filters_by_every_state_that_is_named(dev: Dev) -> None:
    async def count(query: str) -> int:
        return len((await call(dev, "GET", f"/sandbox?{query}"))["items"])

    assert await count("states=stopped&states=started") == 1
    assert await count("states=stopped") == 0
    assert await count("id=SB&name=sb-1") == 1
    assert await count("name=other") == 0
    assert await count("labels=%7B%22a%22%3A%22b%22%7D") == 0


@pytest.mark.parametrize("labels", ["%7B", "[1]", "%7B%22a%22%3A1%7D"])
async def test_list_refuses_labels_that_are_no_object_of_strings(
    dev: Dev, labels: str
) -> None:
    told = await call(dev, "GET", f"/sandbox?labels={labels}", status=400)

    assert "labels" in told["message"]


async def test_unknown_sandbox_is_404_everywhere(dev: Dev) -> None:
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/start"),
        ("POST", "/stop"),
        ("POST", "/autostop/1"),
        ("POST", "/last-activity"),
        ("GET", "/toolbox-proxy-url"),
        ("GET", "/signing-key"),
        ("GET", "/ports/80/preview-url"),
        ("POST", "/ssh-access"),
        ("DELETE", "/ssh-access"),
    ):
        told = await call(dev, method, f"/sandbox/none{path}", status=404)
        assert told == {
            "statusCode": 404,
            "message": "sandbox not found: none",
            "error": "Not Found",
        }


async def test_stop_start_and_delete_change_the_state(dev: Dev) -> None:
    states = [
        (await call(dev, method, f"/sandbox/sb-1{path}"))["state"]
        for method, path in (
            ("POST", "/stop?force=false"),
            ("GET", ""),
            ("POST", "/start"),
            ("DELETE", "?force=true"),
            ("GET", ""),
        )
    ]

    assert states == ["stopped", "stopped", "started", "destroyed", "destroyed"]


async def test_labels_are_replaced_as_a_whole(dev: Dev) -> None:
    await call(dev, "PUT", "/sandbox/sb-1/labels", {"labels": {"a": "1"}})

    told = await call(dev, "PUT", "/sandbox/sb-1/labels", {"labels": {"b": "2"}})

    assert told == {"labels": {"b": "2"}}
    assert (await call(dev, "GET", "/sandbox/sb-1"))["labels"] == {"b": "2"}
    await call(dev, "PUT", "/sandbox/sb-1/labels", {}, 400)


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("autostop", "autoStopInterval"),
        ("autoarchive", "autoArchiveInterval"),
        ("autodelete", "autoDeleteInterval"),
        ("autopause", "autoPauseInterval"),
    ],
)
async def test_intervals_are_noted_and_checked(dev: Dev, kind: str, field: str) -> None:
    told = await call(dev, "POST", f"/sandbox/sb-1/{kind}/12")

    assert told[field] == 12
    await call(dev, "POST", f"/sandbox/sb-1/{kind}/x", status=400)
    await call(dev, "POST", f"/sandbox/sb-1/{kind}/-2", status=400)
    await call(dev, "POST", f"/sandbox/sb-1/{kind}/{10**30}", status=400)
    never = 200 if kind == "autodelete" else 400
    await call(dev, "POST", f"/sandbox/sb-1/{kind}/-1", status=never)


async def test_time_to_live_is_noted_and_taken_back(dev: Dev) -> None:
    assert "autoDestroyAt" in await call(dev, "POST", "/sandbox/sb-1/ttl/5")
    assert "autoDestroyAt" not in await call(dev, "POST", "/sandbox/sb-1/ttl/0")


async def test_activity_is_noted_with_201_and_no_body(dev: Dev) -> None:
    before = await call(dev, "GET", "/sandbox/sb-1")

    assert await call(dev, "POST", "/sandbox/sb-1/last-activity", status=201) is None
    after = await call(dev, "GET", "/sandbox/sb-1")
    assert after["lastActivityAt"] > before["lastActivityAt"]


async def test_addresses_and_key_are_those_of_the_agent(dev: Dev) -> None:
    toolbox = await call(dev, "GET", "/sandbox/sb-1/toolbox-proxy-url")
    preview = await call(dev, "GET", "/sandbox/sb-1/ports/3000/preview-url")

    assert toolbox == {"url": f"{dev.agent}/toolbox"}
    assert preview["sandboxId"] == "sb-1"
    assert preview["url"] == f"http://{dev.host('3000-sb-1')}"
    assert preview["token"] not in {"", dev.settings.token}
    assert await call(dev, "GET", "/sandbox/sb-1/signing-key") == "the-key"
    for port in ("0", "65536", "x"):
        await call(dev, "GET", f"/sandbox/sb-1/ports/{port}/preview-url", status=400)


async def test_ssh_access_is_made_checked_and_revoked(dev: Dev) -> None:
    made = await call(dev, "POST", "/sandbox/sb-1/ssh-access?expiresInMinutes=5")
    check = f"/sandbox/ssh-access/validate?token={made['token']}"

    assert set(made) == {
        *("id", "sandboxId", "token", "expiresAt", "createdAt", "updatedAt"),
        "sshCommand",
    }
    assert await call(dev, "GET", check) == {"valid": True, "sandboxId": "sb-1"}
    for minutes in (10**30, "x"):
        path = f"/sandbox/sb-1/ssh-access?expiresInMinutes={minutes}"
        await call(dev, "POST", path, status=400)
    await call(dev, "DELETE", f"/sandbox/sb-1/ssh-access?token={made['token']}")
    assert await call(dev, "GET", check) == {"valid": False, "sandboxId": "sb-1"}


async def test_configuration_has_every_field_that_an_sdk_requires(dev: Dev) -> None:
    told = await call(dev, "GET", "/config")

    assert set(told) >= {
        *("version", "oidc", "linkedAccountsEnabled", "announcements"),
        *("proxyTemplateUrl", "proxyToolboxUrl", "defaultSnapshot", "dashboardUrl"),
        *("maxAutoArchiveInterval", "maintananceMode", "environment"),
    }
    assert set(told["oidc"]) >= {"issuer", "clientId", "audience", "provider"}


@pytest.mark.parametrize(("method", "path", "deed"), NOT_STOOD_IN)
async def test_what_is_not_stood_in_for_is_said_in_a_typed_error(
    dev: Dev, method: str, path: str, deed: str
) -> None:
    told = await call(dev, method, path.replace("{", "").replace("}", ""), status=501)

    assert told == {
        "statusCode": 501,
        "message": f"the dev stand-in cannot {deed}",
        "error": "Not Implemented",
    }
