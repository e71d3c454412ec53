"""Every option of the agent, with unit and default; the only reader of option variables.

An option comes, in this order, from the command line, from its `TOOLBOX_*` variable, from
the `DAYTONA_*` variable that the official platform sets for the same thing, or from its
default. A bad value on the command line or in `TOOLBOX_*` is an error; a bad value in
`DAYTONA_*` warns and falls back, because a sandbox that does not start for the sake of
a platform's setting helps nobody (contract 70 §3).

Standard library only: the keeper reads this before anything else is imported.
"""

import json
import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

MIB = 1024 * 1024
SESSION_HEADER_LIMIT_BYTES = 64 * 1024
"""One header line; PTY environments travel in one (contract 30 §4)."""


class SettingsError(Exception):
    """An option has a value that cannot be used; the message is one clear line."""


def _duration_s(text: str) -> float:
    """Read seconds (`2.5`) or a Go duration (`1m30s`, `500ms`)."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(r"(\d+(\.\d+)?(h|ms|m|s))+", text):
        raise ValueError(f"not a duration: {text!r}")
    unit_s = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s)", text)
    return sum(float(number) * unit_s[unit] for number, unit in parts)


def _grace(text: str) -> float:
    seconds = _duration_s(text)
    if seconds > 0.5:
        raise ValueError(f"must be 500ms or less: {text!r}")
    return seconds


def _boolean(text: str) -> bool:
    if text.lower() in {"1", "t", "true", "yes", "on"}:
        return True
    if text.lower() in {"0", "f", "false", "no", "off", ""}:
        return False
    raise ValueError(f"not a boolean: {text!r}")


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError(f"not a port: {text}")
    return port


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(f"must be 1 or more: {text}")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(f"must be 0 or more: {text}")
    return number


def _level(text: str) -> str:
    if text.lower() not in {"debug", "info", "warning", "warn", "error"}:
        raise ValueError(f"not a log level: {text}")
    return "warning" if text.lower() == "warn" else text.lower()


def _credential_store(text: str) -> str:
    if text not in {"memory", "store"}:
        raise ValueError(f"neither memory nor store: {text}")
    return text


def _program(text: str) -> str:
    if not (os.path.isabs(text) and os.path.isfile(text) and os.access(text, os.X_OK)):
        raise ValueError(f"not the absolute path of a program: {text}")
    return text


def _option(
    parse: Callable[[str], Any],
    default: object,
    text: str,
    *,
    unit: str = "",
    platform: str = "",
    secret: bool = False,
) -> Any:
    """Declare one option; `platform` is the official platform's variable for it."""
    return field(
        default=default,
        metadata={
            "parse": parse,
            "help": text,
            "unit": unit,
            "platform": platform,
            "secret": secret,
        },
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of one agent, as its two processes use them."""

    host: str = _option(
        str,
        "127.0.0.1",
        "address to listen on; anything but loopback needs a token or --trust-network",
    )
    port: int = _option(
        _port, 2280, "port of the toolbox API; 0 takes a free one", unit="port"
    )
    token: str = _option(
        str,
        "",
        "the token that callers must show; removed from the environment at start",
        secret=True,
    )
    token_file: str = _option(str, "", "file whose first line is the token")
    token_fd: int = _option(
        int, -1, "open descriptor to read the token from", unit="descriptor"
    )
    no_auth: bool = _option(
        _boolean, False, "ask no caller for a token (loopback only; warns)"
    )
    trust_network: bool = _option(
        _boolean,
        False,
        "the network in front checks the caller: no token, Host or Origin rules",
    )
    signing_key: str = _option(
        str,
        "",
        "key of signed file URLs; none given: such URLs need a token",
        secret=True,
    )
    signing_key_file: str = _option(
        str, "", "file whose first line is the key of signed file URLs"
    )
    allowed_hosts: tuple[str, ...] = _option(
        _names, (), "further Host names that are ours, separated by commas"
    )
    allowed_origins: tuple[str, ...] = _option(
        _names, (), "origins from which a query token is accepted, separated by commas"
    )
    state_dir: str = _option(
        str, "~/.toolbox-agent", "directory of the made token, logs and spools (0700)"
    )
    work_dir: str = _option(
        str,
        "",
        "base of relative paths; not given: the directory the agent is started in",
    )
    home_as_work_dir: bool = _option(
        _boolean,
        False,
        "use the home directory as work dir",
        platform="DAYTONA_USER_HOME_AS_WORKDIR",
    )
    shell: str = _option(
        _program,
        "",
        "shell of commands, sessions and terminals; not given: the first of zsh and"
        " bash that /etc/shells lists, then SHELL, then sh",
    )
    sandbox_id: str = _option(
        str,
        "",
        "id of this sandbox; not given: the host name",
        platform="DAYTONA_SANDBOX_ID",
    )
    otel_endpoint: str = _option(
        str,
        "",
        "base URL of an OpenTelemetry collector; not given: nothing is exported",
        platform="DAYTONA_OTEL_ENDPOINT",
    )
    otel_labels: str = _option(
        str,
        "",
        "labels of what is exported, as k=v,k=v",
        platform="DAYTONA_SANDBOX_OTEL_EXTRA_LABELS",
    )
    otel_environment: str = _option(
        str, "sandbox", "deployment.environment.name of what is exported"
    )
    organization_id: str = _option(
        str,
        "",
        "organization that what is exported is labelled with",
        platform="DAYTONA_ORGANIZATION_ID",
    )
    region_id: str = _option(
        str,
        "",
        "region that what is exported is labelled with",
        platform="DAYTONA_REGION_ID",
    )
    snapshot: str = _option(
        str,
        "",
        "snapshot that what is exported is labelled with",
        platform="DAYTONA_SANDBOX_SNAPSHOT",
    )
    log_level: str = _option(
        _level, "info", "debug, info, warning or error", platform="LOG_LEVEL"
    )
    log_file: str = _option(
        str,
        "",
        "file of the agent's own log; not given: standard error",
        platform="DAYTONA_DAEMON_LOG_FILE_PATH",
    )
    log_file_max_size_mib: int = _option(
        _positive,
        100,
        "size at which the log file is rotated",
        unit="MiB",
        platform="DAYTONA_DAEMON_LOG_FILE_MAX_SIZE_MB",
    )
    log_file_max_backups: int = _option(
        _positive,
        5,
        "rotated log files kept",
        unit="files",
        platform="DAYTONA_DAEMON_LOG_FILE_MAX_BACKUPS",
    )
    grace_s: float = _option(
        _duration_s,
        5.0,
        "time between asking a process to end and killing it",
        unit="s",
        platform="DAYTONA_TERMINATION_GRACE_PERIOD",
    )
    keepalive_s: float = _option(
        _duration_s,
        70.0,
        "idle time after which a connection is closed; longer than the proxy's",
        unit="s",
    )
    header_timeout_s: float = _option(
        _duration_s, 10.0, "time a client has to send a request's headers", unit="s"
    )
    linger_s: float = _option(
        _duration_s,
        30.0,
        "time spent reading the rest of a refused body, so that the client sees why",
        unit="s",
    )
    body_max_bytes: int = _option(
        _positive, 64 * MIB, "largest JSON body (uploads have no limit)", unit="bytes"
    )
    result_max_bytes: int = _option(
        _positive,
        256 * MIB,
        "output of one execute kept; of more, the head and the tail",
        unit="bytes",
    )
    command_log_max_bytes: int = _option(
        _positive, 256 * MIB, "output kept of one session command", unit="bytes"
    )
    limit_wall_s: int = _option(
        _count, 0, "longest time that one command may run; 0: no limit", unit="s"
    )
    limit_cpu_s: int = _option(
        _count,
        0,
        "processor time that each process of a command may use; 0: no limit",
        unit="s",
    )
    limit_memory_bytes: int = _option(
        _count,
        0,
        "memory of a command's tree, or of each process without cgroups; 0: no limit",
        unit="bytes",
    )
    limit_open_files: int = _option(
        _count,
        0,
        "files that each process of a command may have open; 0: no limit",
        unit="files",
    )
    limit_processes: int = _option(
        _count,
        0,
        "processes of a command's tree, or of the user without cgroups; 0: no limit",
        unit="processes",
    )
    max_connections: int = _option(
        _positive, 4096, "connections open at once; more get 503", unit="connections"
    )
    max_commands: int = _option(
        _positive, 4096, "commands running at once; more get 429", unit="commands"
    )
    events_max_bytes: int = _option(
        _positive,
        4 * MIB,
        "events kept for GET /events; the oldest half goes first",
        unit="bytes",
    )
    checkpoints_max_count: int = _option(
        _positive,
        200,
        "checkpoints kept of one directory; the oldest go first",
        unit="checkpoints",
    )
    checkpoints_max_bytes: int = _option(
        _positive,
        4096 * MIB,
        "size of one directory's checkpoints on disk, and of a directory to be kept",
        unit="bytes",
    )
    checkpoint_file_max_bytes: int = _option(
        _positive, 512 * MIB, "largest file that a checkpoint keeps", unit="bytes"
    )
    git_credentials: str = _option(
        _credential_store,
        "memory",
        "where /git/credentials keeps what it is given: memory, or store (plain text)",
    )
    git_credentials_lifetime_s: float = _option(
        _duration_s,
        12 * 3600.0,
        "time for which git credentials are kept in memory",
        unit="s",
    )
    proxy_grace_s: float = _option(
        _grace,
        0.0,
        "time for which /proxy waits for a service that does not listen yet (up to"
        " 500ms)",
        unit="s",
    )
    lsp_config: str = _option(
        str,
        "",
        "TOML file about language servers; not given:"
        " ~/.config/toolbox-agent/lsp.toml, if it is there",
    )
    dev: bool = field(default=False, metadata={"internal": True})
    dev_port: int = _option(
        _port, 2281, "port of the dev command's control-plane stand-in", unit="port"
    )
    preview_port: int = _option(
        _port,
        -1,
        "port of the dev command's previews; not given: the one after --dev-port",
        unit="port",
    )
    entrypoint: tuple[str, ...] = field(default=(), metadata={"internal": True})
    """The image's own command, run once the agent listens; empty: none."""

    def to_json(self) -> bytes:
        """Return the settings for the api process (the token included)."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Settings":
        """Return what `to_json` wrote."""
        values = json.loads(text)
        for each in fields(cls):
            if isinstance(values.get(each.name), list):
                values[each.name] = tuple(values[each.name])
        return cls(**values)


def options() -> tuple[Field[Any], ...]:
    """Return the fields of `Settings` that are options of the command line."""
    return tuple(each for each in fields(Settings) if "internal" not in each.metadata)


VARIABLE_PREFIX = "TOOLBOX_"
"""Begins every variable of the agent's own; no child ever sees one of these."""


def variable(option: Field[Any]) -> str:
    """Return the option's own environment variable."""
    return VARIABLE_PREFIX + option.name.upper()


def is_secret(option: Field[Any]) -> bool:
    """Tell whether the option is one that must not stand on a command line."""
    return bool(option.metadata["secret"])


def flag(option: Field[Any]) -> str:
    """Return the option's name on the command line."""
    return "--" + option.name.replace("_", "-")


@dataclass(frozen=True)
class Loaded:
    """What `load` made of the command line and the environment."""

    settings: Settings
    warnings: tuple[str, ...]


def load(
    given: Mapping[str, str],
    environ: Mapping[str, str],
    *,
    entrypoint: Sequence[str] = (),
    dev: bool = False,
) -> Loaded:
    """Return the settings from `given` (option name to text) over `environ`.

    Raises:
        SettingsError: A value cannot be used; the message names option and value.
    """
    warnings: list[str] = []
    values: dict[str, Any] = {"entrypoint": tuple(entrypoint), "dev": dev}
    for option in options():
        text, source = _text_of(option, given, environ)
        if text is None:
            continue
        try:
            values[option.name] = option.metadata["parse"](text)
        except ValueError as error:
            reason = "cannot be used" if option.metadata["secret"] else str(error)
            if source != option.metadata["platform"]:
                raise SettingsError(f"{source}: {reason}") from error
            warnings.append(f"{source}: {reason}; using {option.default!r}")
    if not values.get("sandbox_id"):
        values["sandbox_id"] = socket.gethostname()
    values["state_dir"] = str(
        Path(values.get("state_dir", Settings.state_dir)).expanduser().absolute()
    )
    return Loaded(Settings(**values), tuple(warnings))


def _text_of(
    option: Field[Any], given: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[str | None, str]:
    if option.name in given:
        return given[option.name], flag(option)
    for name in (variable(option), option.metadata["platform"]):
        # An empty variable counts as not set: images often declare them so.
        if name and environ.get(name):
            return environ[name], name
    return None, ""


def work_dir(settings: Settings, environ: Mapping[str, str]) -> str:
    """Return the absolute directory that relative paths resolve against.

    Raises:
        SettingsError: It is not a directory.
    """
    if settings.work_dir:
        chosen = os.path.abspath(os.path.expanduser(settings.work_dir))
    elif settings.home_as_work_dir:
        chosen = environ.get("HOME") or os.path.expanduser("~")
    else:
        chosen = os.getcwd()
    if not os.path.isdir(chosen):
        raise SettingsError(f"work dir is not a directory: {chosen}")
    return chosen
