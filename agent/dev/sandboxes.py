"""The control plane's idea of the sandbox: one, and it stands for this agent.

Its life is told and not lived. `stop`, `start` and `delete` change what is answered here
and nothing else, because the machine is the developer's own: no process is ended and no
file is removed. Everything is held in memory and begins anew with the api process.
"""

import os
import pwd
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec

from agent import wire
from agent.dev.models import (
    MAX_MINUTES,
    Configuration,
    CreateRequest,
    Labels,
    PreviewUrl,
    Sandbox,
    SignedPreviewUrl,
    SshAccess,
    SshAccessCheck,
    StateChange,
    Url,
)
from agent.dev.previews.addresses import Addresses
from agent.dev.previews.tokens import TOOLBOX_PORT, Tokens
from agent.dev.ssh import SshAccesses
from agent.errors import ConflictError, InvalidRequestError, NotFoundError
from agent.settings import Settings
from agent.version import VERSION
from agent.wire import UNSET

GIB = 1024**3
PORT_MAX = 65535
ORGANIZATION = "local"
TARGET = "local"
LANGUAGE_LABEL = "code-toolbox-language"
LANGUAGES = ("python", "typescript", "javascript")
"""What the newest SDK accepts in that label; with anything else its `get` raises."""


INTERVALS = {
    "autostop": "auto_stop_interval",
    "autoarchive": "auto_archive_interval",
    "autodelete": "auto_delete_interval",
    "autopause": "auto_pause_interval",
}
REFUSED = {
    "build_info": "build an image; start the agent inside yours",
    "volumes": "mount volumes",
    "secrets": "mount secrets",
    "linked_sandbox": "link sandboxes: there is one",
    "network_block_all": "block the network",
    "network_allow_list": "limit the network",
    "domain_allow_list": "limit the network",
    "outbound_proxy_url": "route the network",
}
"""What `create` may ask and nobody here does; left out silently it would mislead."""


class Variables(Protocol):
    """The environment of the processes that the agent starts."""

    async def update(
        self, variables: Mapping[str, str], unset: Sequence[str] = ()
    ) -> None:
        """Remove `unset`, then set `variables`."""


def _now() -> datetime:
    return datetime.now(UTC)


class Sandboxes:
    """All sandboxes of the stand-in, which are one.

    Args:
        settings: The agent's options, with the port that it really has.
        variables: Where the environment that `create` asks for goes.
        announce: Is told of every event: its name, and its data.
        addresses: Where the sandbox's ports can be seen.
        tokens: What opens them.
        clock: The time of day.
    """

    def __init__(
        self,
        settings: Settings,
        variables: Variables,
        announce: Callable[[str, wire.Model], None],
        addresses: Addresses,
        tokens: Tokens,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._settings = settings
        self._variables = variables
        self._announce = announce
        self._addresses = addresses
        self._tokens = tokens
        self._clock = clock
        self._origin = origin(settings.host, settings.port)
        self._ssh = SshAccesses(settings.host, clock)
        self._sandbox = self._fresh()

    def _fresh(self) -> Sandbox:
        """Return the sandbox as it is before anybody asked for anything."""
        now = self._clock()
        disk = os.statvfs("/")
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        sandbox_id = self._settings.sandbox_id
        return Sandbox(
            id=sandbox_id,
            organization_id=ORGANIZATION,
            name=sandbox_id,
            user=_user(),
            env={},
            labels={},
            target=TARGET,
            cpu=os.cpu_count() or 1,
            memory=_gib(memory),
            disk=_gib(disk.f_blocks * disk.f_frsize),
            state="started",
            desired_state="started",
            daemon_version=VERSION,
            created_at=now,
            updated_at=now,
            last_activity_at=now,
            toolbox_proxy_url=f"{self._origin}/toolbox",
        )

    @property
    def is_public(self) -> bool:
        """Whether its previews ask for no token."""
        return self._sandbox.public

    def get(self, id_or_name: str) -> Sandbox:
        """Return the sandbox, the deleted one too: the first SDK asks once more.

        Raises:
            NotFoundError: It has another id and another name.
        """
        if id_or_name not in {self._sandbox.id, self._sandbox.name}:
            raise NotFoundError(f"sandbox not found: {id_or_name}")
        return self._sandbox

    def list(
        self,
        *,
        id_prefix: str = "",
        name_prefix: str = "",
        labels: str = "",
        states: Iterable[str] = (),
    ) -> list[Sandbox]:
        """Return the sandbox if it is there and fits.

        Args:
            id_prefix: Beginning of the id, whatever its case.
            name_prefix: Beginning of the name, whatever its case.
            labels: A JSON object of labels that it must have; `null` asks for none.
            states: The states it may be in; none given: any but destroyed.

        Raises:
            InvalidRequestError: `labels` is no such object.
        """
        found = self._sandbox
        states = set(states) or {"started", "stopped"}
        fits = (
            found.state in states
            and found.id.lower().startswith(id_prefix.lower())
            and found.name.lower().startswith(name_prefix.lower())
            and _labels_of(labels).items() <= found.labels.items()
        )
        return [found] if fits else []

    async def create(self, wanted: CreateRequest) -> Sandbox:
        """Start the sandbox with the name, labels and environment that are asked for.

        There is only one: a second `create` gives the same sandbox its new name and
        labels. The environment is set for every process that starts from now on. Size,
        snapshot and intervals are noted and change nothing.

        Raises:
            InvalidRequestError: It asks for something that nobody here can do.
        """
        _refuse_the_impossible(wanted)
        labels = wanted.labels or {}
        _check_language(labels)
        environment = wanted.env or {}
        before = [name for name in self._sandbox.env if name not in environment]
        await self._variables.update(environment, before)
        fresh = self._fresh()
        ttl_minutes = wanted.ttl_minutes or 0
        self._sandbox = msgspec.structs.replace(
            fresh,
            name=wanted.name or fresh.id,
            env=environment,
            labels=labels,
            public=wanted.public or False,
            target=wanted.target or TARGET,
            snapshot=wanted.snapshot or UNSET,
            auto_destroy_at=self._destroy_at(ttl_minutes),
            **{
                field: value
                for field in INTERVALS.values()
                if (value := getattr(wanted, field)) is not None
            },
        )
        self._announce("sandbox.created", self._sandbox)
        return self._sandbox

    def start(self, id_or_name: str) -> Sandbox:
        """Call the sandbox started.

        Raises:
            NotFoundError: It has another id and another name.
            ConflictError: It was deleted.
        """
        self._living(id_or_name)
        return self._change(state="started", desired_state="started")

    def stop(self, id_or_name: str) -> Sandbox:
        """Call the sandbox stopped; the agent goes on, and so does all that it runs.

        An ephemeral one (to be deleted 0 minutes after its stop) is deleted.

        Raises:
            NotFoundError: It has another id and another name.
            ConflictError: It was deleted.
        """
        state = (
            "destroyed"
            if self._living(id_or_name).auto_delete_interval == 0
            else "stopped"
        )
        return self._change(state=state, desired_state=state)

    async def delete(self, id_or_name: str) -> Sandbox:
        """Call the sandbox destroyed; `create` brings it back.

        What `create` put into the environment is taken out again.

        Raises:
            NotFoundError: It has another id and another name.
        """
        found = self.get(id_or_name)
        await self._variables.update({}, list(found.env))
        self._ssh.revoke()
        await self._tokens.expire_all()
        return self._change(
            state="destroyed", desired_state="destroyed", env={}, public=False
        )

    def set_labels(self, id_or_name: str, wanted: Labels) -> Labels:
        """Replace all labels.

        Raises:
            NotFoundError: It has another id and another name.
            ConflictError: It was deleted.
            InvalidRequestError: The language label names no language.
        """
        self._living(id_or_name)
        _check_language(wanted.labels)
        return Labels(labels=self._change(labels=wanted.labels).labels)

    def set_interval(self, id_or_name: str, kind: str, minutes: str) -> Sandbox:
        """Note an interval of minutes; nobody here acts on it.

        Raises:
            NotFoundError: It has another id and another name.
            ConflictError: It was deleted.
            InvalidRequestError: Not a whole number, one beyond all use, or a negative
                one; only for `autodelete` -1 has a meaning: never.
        """
        self._living(id_or_name)
        least = -1 if kind == "autodelete" else 0
        number = _whole(minutes, least=least, most=MAX_MINUTES)
        if kind == "ttl":
            return self._change(auto_destroy_at=self._destroy_at(number))
        return self._change(**{INTERVALS[kind]: number})

    def set_public(self, id_or_name: str, text: str) -> Sandbox:
        """Let anybody on this machine open the previews, or only who has a token.

        Raises:
            NotFoundError: It has another id and another name.
            ConflictError: It was deleted.
            InvalidRequestError: Neither true nor false.
        """
        self._living(id_or_name)
        if text not in {"true", "false"}:
            raise InvalidRequestError(f"neither true nor false: {text}")
        return self._change(public=text == "true")

    def touch(self) -> None:
        """Note that the sandbox is in use."""
        self._sandbox = msgspec.structs.replace(
            self._sandbox, last_activity_at=self._clock()
        )

    def toolbox_url(self, id_or_name: str) -> Url:
        """Return where the toolbox is: at the agent itself, with no proxy between.

        Raises:
            NotFoundError: It has another id and another name.
        """
        return Url(url=self.get(id_or_name).toolbox_proxy_url)

    def signing_key(self, id_or_name: str) -> str:
        """Return the key with which the SDK signs file URLs, and the agent checks them.

        Raises:
            NotFoundError: It has another id and another name.
        """
        self.get(id_or_name)
        return self._settings.signing_key

    def preview(self, id_or_name: str, port: str) -> PreviewUrl:
        """Return where a port of the sandbox can be reached, with the token for it.

        The toolbox's port is reached at the toolbox itself.

        Raises:
            NotFoundError: It has another id and another name.
            InvalidRequestError: Not a port.
        """
        found = self.get(id_or_name)
        number = _whole(port, least=1, most=PORT_MAX)
        url = self._addresses.url(f"{number}-{self._addresses.name}")
        if self._is_toolbox(number):
            url = self._origin
        token = self._tokens.of_port(number)
        return PreviewUrl(sandbox_id=found.id, url=url, token=token)

    async def sign_preview(
        self, id_or_name: str, port: str, lifetime_s: int
    ) -> SignedPreviewUrl:
        """Return an address that opens a port of the sandbox by itself, for a time.

        Raises:
            NotFoundError: It has another id and another name.
            ConflictError: It was deleted.
            InvalidRequestError: Not a port, or the toolbox's: whoever had such an
                address would have all rights.
            TooManyError: As many as can be held are.
        """
        found = self._living(id_or_name)
        number = _whole(port, least=1, most=PORT_MAX)
        if self._is_toolbox(number):
            raise InvalidRequestError(
                f"port {number} is the toolbox's, which no address opens by itself"
            )
        token = await self._tokens.sign(number, lifetime_s)
        url = self._addresses.url(f"{number}-{token}")
        return SignedPreviewUrl(sandbox_id=found.id, port=number, token=token, url=url)

    async def expire_preview(self, id_or_name: str, port: str, token: str) -> None:
        """Let a signed address open nothing any more.

        Raises:
            NotFoundError: The sandbox has another id and another name, or no port of it
                has this token.
            InvalidRequestError: Not a port.
        """
        self.get(id_or_name)
        await self._tokens.expire(_whole(port, least=1, most=PORT_MAX), token)

    def _is_toolbox(self, port: int) -> bool:
        return port in {TOOLBOX_PORT, self._settings.port}

    def create_ssh_access(self, id_or_name: str, minutes: int | None) -> SshAccess:
        """Make a token for SSH.

        Raises:
            NotFoundError: It has another id and another name.
            ConflictError: It was deleted.
            TooManyError: As many as can be held are.
        """
        return self._ssh.create(self._living(id_or_name).id, minutes)

    def revoke_ssh_access(self, id_or_name: str, token: str | None) -> Sandbox:
        """Forget a token for SSH, or all of them.

        Raises:
            NotFoundError: It has another id and another name.
        """
        found = self.get(id_or_name)
        self._ssh.revoke(token)
        return found

    def check_ssh_access(self, token: str) -> SshAccessCheck:
        """Tell whether a token for SSH still holds."""
        return SshAccessCheck(
            valid=self._ssh.holds(token), sandbox_id=self._settings.sandbox_id
        )

    def configuration(self) -> Configuration:
        """Return what SDKs ask of an installation as a whole."""
        return Configuration(
            version=VERSION,
            proxy_template_url=self._addresses.template,
            proxy_toolbox_url=f"{self._origin}/toolbox",
            default_snapshot=TARGET,
            dashboard_url=f"{self._origin}/docs",
            max_auto_archive_interval=MAX_MINUTES,
        )

    def _living(self, id_or_name: str) -> Sandbox:
        found = self.get(id_or_name)
        if found.state == "destroyed":
            raise ConflictError(f"sandbox was deleted: {id_or_name}; create it anew")
        return found

    def _change(self, **fields: object) -> Sandbox:
        before = self._sandbox.state
        self._sandbox = msgspec.structs.replace(
            self._sandbox, updated_at=self._clock(), **fields
        )
        after = self._sandbox.state
        if after != before:
            change = StateChange(
                sandbox=self._sandbox, old_state=before, new_state=after
            )
            self._announce("sandbox.state.updated", change)
        return self._sandbox

    def _destroy_at(self, minutes: int) -> datetime | msgspec.UnsetType:
        return self._clock() + timedelta(minutes=minutes) if minutes > 0 else UNSET


def origin(host: str, port: int) -> str:
    """Return the beginning of a URL that reaches `host`, a literal IPv6 one too."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _gib(size_bytes: int) -> int:
    return max(1, round(size_bytes / GIB))


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _whole(text: str, *, least: int, most: int) -> int:
    try:
        number = int(text)
    except ValueError as error:
        raise InvalidRequestError(f"not a whole number: {text}") from error
    if not least <= number <= most:
        raise InvalidRequestError(f"not from {least} to {most}: {text}")
    return number


def _labels_of(text: str) -> dict[str, str]:
    try:
        return msgspec.json.decode(text or "null", type=dict[str, str] | None) or {}
    except msgspec.DecodeError as error:
        raise InvalidRequestError("labels is not a JSON object of strings") from error


def _check_language(labels: Mapping[str, str]) -> None:
    language = labels.get(LANGUAGE_LABEL, "") or LANGUAGES[0]
    if language not in LANGUAGES:
        raise InvalidRequestError(
            f"label {LANGUAGE_LABEL} must be one of {', '.join(LANGUAGES)}"
        )


def _refuse_the_impossible(wanted: CreateRequest) -> None:
    for name, deed in REFUSED.items():
        if getattr(wanted, name):
            raise InvalidRequestError(f"the dev stand-in cannot {deed}")
    if wanted.user not in {None, "", _user()}:
        raise InvalidRequestError(
            f"the dev stand-in runs as {_user()} and cannot become {wanted.user}"
        )
