"""Addresses of previews: what is made is found again, and nothing else is."""

import dataclasses
from pathlib import Path

import pytest

from agent.dev.previews.addresses import (
    Addresses,
    Place,
    knows_localhost_names,
    name_of,
)
from agent.dev.previews.tokens import TOOLBOX_PORT
from agent.errors import (
    AgentError,
    InvalidRequestError,
    MisdirectedError,
    NotFoundError,
)
from agent.settings import Settings


@pytest.fixture
def addresses(settings: Settings) -> Addresses:
    return Addresses(dataclasses.replace(settings, preview_port=2282), named=True)


def test_programs_are_given_names_only_where_they_can_find_them(
    settings: Settings,
) -> None:
    settings = dataclasses.replace(settings, preview_port=2282)
    named, plain = (Addresses(settings, named=each) for each in (True, False))

    assert named.url("3000-sb-1") == "http://3000-sb-1.localhost:2282"
    assert plain.url("3000-sb-1") == "http://127.0.0.1:2282/preview/3000-sb-1"
    assert plain.named_url("3000-sb-1") == named.url("3000-sb-1")


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"),
        ("/a%2Fb//c/?q=%20&x=/y", "/a%2Fb//c/?q=%20&x=/y"),
        ("//a", "//a"),
        ("/?q", "/?q"),
        ("/preview/3000-sb-1", "/preview/3000-sb-1"),
        ("/toolbox/x", "/toolbox/x"),
    ],
)
def test_host_names_the_port_and_the_path_stays_as_it_was_sent(
    addresses: Addresses, target: str, path: str
) -> None:
    host = "3000-sb-1.localhost:2282"

    assert addresses.find(host, target) == Place(3000, "sb-1", path, host, True)
    assert addresses.find(host.upper(), target).path == path


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/preview/3000-sb-1", "/"),
        ("/preview/3000-sb-1/", "/"),
        ("/preview/3000-sb-1?q=/a", "/?q=/a"),
        ("/preview/3000-sb-1/a%2Fb//c?q=?", "/a%2Fb//c?q=?"),
        ("/preview/3000-SB-1//a", "//a"),
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1:2282", "localhost:2282", "[::1]:2282"])
def test_path_names_the_port_where_the_host_does_not(
    addresses: Addresses, host: str, target: str, path: str
) -> None:
    assert addresses.find(host, target) == Place(3000, "sb-1", path, host, False)


def test_toolbox_has_its_path_on_the_bare_host(addresses: Addresses) -> None:
    place = addresses.find("localhost:2282", "/toolbox/sb-1/process/execute?a")

    assert place.port == TOOLBOX_PORT
    assert place.path == "/toolbox/sb-1/process/execute?a"


@pytest.mark.parametrize(
    ("host", "target", "kind"),
    [
        ("", "/", MisdirectedError),
        ("rebound.example:2282", "/preview/3000-sb-1/", MisdirectedError),
        ("3000-sb-1.localhost.rebound.example:2282", "/", MisdirectedError),
        ("3000-sb-1.localhost", "/", MisdirectedError),
        ("3000-sb-1.localhost:2281", "/", MisdirectedError),
        ("3000-sb-1.localhost.:2282", "/", MisdirectedError),
        ("a.3000-sb-1.localhost:2282", "/", MisdirectedError),
        ("3000.localhost:2282", "/", MisdirectedError),
        ("x-sb-1.localhost:2282", "/", MisdirectedError),
        ("123456-sb-1.localhost:2282", "/", MisdirectedError),
        ("127.0.0.1", "/preview/3000-sb-1", MisdirectedError),
        ("127.0.0.1:2280", "/preview/3000-sb-1", MisdirectedError),
        ("65536-sb-1.localhost:2282", "/", InvalidRequestError),
        ("0-sb-1.localhost:2282", "/", InvalidRequestError),
        ("3000-sb-1.localhost:2282", "http://a.example/", InvalidRequestError),
        ("3000-sb-1.localhost:2282", "*", InvalidRequestError),
        ("localhost:2282", "/", NotFoundError),
        ("localhost:2282", "/preview/", NotFoundError),
        ("localhost:2282", "/preview/3000", NotFoundError),
        ("localhost:2282", "/preview/..%2f3000-a/", NotFoundError),
        ("localhost:2282", "/process/execute", NotFoundError),
    ],
)
def test_other_hosts_and_paths_are_nobodys(
    addresses: Addresses, host: str, target: str, kind: type[AgentError]
) -> None:
    with pytest.raises(kind):
        addresses.find(host, target)


@pytest.mark.parametrize(
    ("sandbox_id", "name"),
    [
        ("sb-1", "sb-1"),
        ("My_Laptop.local", "my-laptop-local"),
        ("é!", "sandbox"),
        ("x" * 80, "x" * 57),
    ],
)
def test_sandbox_has_a_name_that_a_host_name_can_hold(
    sandbox_id: str, name: str
) -> None:
    assert name_of(sandbox_id) == name
    settings = Settings(sandbox_id=sandbox_id, preview_port=2282)
    found = Addresses(settings, named=True).find(f"65535-{name}.localhost:2282", "/")
    assert found.name == name
    assert len(found.label) <= 63


@pytest.mark.parametrize(
    ("switch", "resolver", "known"),
    [
        ("hosts: files dns\n", "nameserver 192.0.2.1\n", False),
        ("hosts: files myhostname dns\n", "", True),
        ("hosts: files resolve [!UNAVAIL=return] dns\n", "", True),
        ("hosts: files # myhostname\npasswd: resolve\n", "", False),
        ("hosts: files dns\n", "nameserver 127.0.0.53\n", True),
        ("hosts: files dns\n", "# nameserver 127.0.0.53\n", False),
        (None, None, False),
    ],
)
def test_resolver_is_known_by_its_configuration(
    tmp_path: Path, switch: str | None, resolver: str | None, known: bool
) -> None:
    for name, text in (("switch", switch), ("resolver", resolver)):
        if text is not None:
            (tmp_path / name).write_text(text)

    assert knows_localhost_names(tmp_path / "switch", tmp_path / "resolver") is known
