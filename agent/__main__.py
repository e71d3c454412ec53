"""The command line: `toolbox-agent serve | dev | healthcheck | entrypoint logs`.

Any other words are the sandbox's own command, as the official platform hands them over
(contract 70 §2): then the agent serves and runs them as its entrypoint. Everything here
is standard library, because the keeper grows from this process.
"""

import argparse
import dataclasses
import ipaddress
import json
import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from typing import NoReturn

from agent import settings as options
from agent.settings import Settings, SettingsError
from agent.state import (
    UnsafeStateError,
    made_key,
    made_token,
    open_state_dir,
    read_secret,
)
from agent.version import VERSION

EXIT_CONFIGURATION = 78
"""sysexits.h EX_CONFIG: what was asked for is not safe."""
EXIT_USAGE = 2
COMMANDS = ("serve", "dev")
SECRETS_FD = "TOOLBOX_SECRETS_FD"
"""Names the descriptor by which secrets pass a re-execution."""


class UnsafeError(SettingsError):
    """Serving like this would let anybody in."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        exit_code = ask(words)
        return run(serving(words), os.environ) if exit_code is None else exit_code
    except (UnsafeError, UnsafeStateError) as error:
        return refuse(error, EXIT_CONFIGURATION)
    except SettingsError as error:
        return refuse(error, EXIT_USAGE)


def ask(words: list[str]) -> int | None:
    """Answer the words that only ask something, or return None.

    They are ours only when nothing else stands with them, so that no real entrypoint is
    misread.
    """
    if words == ["--version"]:
        sys.stdout.write(f"toolbox-agent {VERSION}\n")
        return 0
    if words == ["healthcheck"]:
        from agent.healthcheck import healthcheck  # noqa: PLC0415 - this word's only

        return healthcheck(options.load({}, os.environ).settings)
    if words[:2] == ["entrypoint", "logs"] and words[2:] in ([], ["--follow"]):
        from agent.entrypoint_logs import show  # noqa: PLC0415 - these words' only

        return show(options.load({}, os.environ).settings, follow=bool(words[2:]))
    return None


def serving(words: list[str]) -> list[str]:
    """Return the words with the command that they leave out."""
    if not words:
        return ["serve"]
    if words[0] in {*COMMANDS, "--help", "-h"}:
        return words
    return ["serve", "--", *words]


def refuse(error: SettingsError, exit_code: int) -> int:
    """Say in one line why the agent does not start."""
    sys.stderr.write(f"toolbox-agent: {error}\n")
    return exit_code


def run(words: list[str], environ: MutableMapping[str, str]) -> int:
    """Serve as `words` say; returns when the agent has stopped.

    Raises:
        SettingsError: An option cannot be used, or is not safe.
    """
    secrets = take_secrets(environ)
    before, entrypoint = words, []
    if "--" in words:
        place = words.index("--")
        before, entrypoint = words[:place], words[place + 1 :]
    given = vars(parser().parse_args(before))
    command = given.pop("command")
    loaded = options.load(
        {name: value for name, value in given.items() if value is not None},
        {**environ, **secrets},
        entrypoint=entrypoint,
        dev=command == "dev",
    )
    check_safe(loaded.settings)
    settings = with_secrets(loaded.settings)
    for warning in loaded.warnings:
        sys.stderr.write(f"toolbox-agent: warning: {warning}\n")
    directory = options.work_dir(settings, environ)
    os.chdir(directory)
    from agent.keeper.main import run as keep  # noqa: PLC0415 - not for --help

    return keep(settings, directory)


def parser() -> argparse.ArgumentParser:
    """Return the parser of `serve` and `dev`."""
    top = argparse.ArgumentParser(
        prog="toolbox-agent",
        description="Serve the toolbox API of this sandbox.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(
            "further commands:\n"
            "  healthcheck               ask the agent that runs here; exit 0 when it is well\n"
            "  entrypoint logs [--follow]  print what the entrypoint command wrote\n"
            "  --version                 print the version\n\n"
            "anything else is served with these words as the entrypoint command"
        ),
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    for name, text in (
        ("serve", "serve the toolbox API; after `--`, the entrypoint command"),
        ("dev", "serve on loopback with a stand-in control plane for the SDKs"),
    ):
        command = commands.add_parser(
            name,
            help=text,
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog=variables_help(),
            allow_abbrev=False,
        )
        for option in options.options():
            if not options.is_secret(option) and (
                name == "dev" or option.name != "dev_port"
            ):
                add_option(command, option)
    return top


def add_option(
    command: argparse.ArgumentParser, option: "dataclasses.Field[object]"
) -> None:
    """Add one option, with its unit, default and variables."""
    default = option.default
    if isinstance(default, tuple) or default in {"", -1}:
        shown = "none"
    else:
        shown = str(default).lower() if isinstance(default, bool) else str(default)
    names = [options.variable(option), option.metadata["platform"]]
    text = (
        f"{option.metadata['help']} (default {shown};"
        f" variable {' or '.join(filter(None, names))})"
    )
    if isinstance(default, bool):
        command.add_argument(
            options.flag(option),
            dest=option.name,
            nargs="?",
            const="true",
            metavar="BOOL",
            help=text,
        )
    else:
        unit = option.metadata["unit"].upper().replace(" ", "_") or "TEXT"
        command.add_argument(
            options.flag(option), dest=option.name, metavar=unit, help=text
        )


def variables_help() -> str:
    """Describe the options that come by variable only."""
    lines = ["variables without an option, because arguments can be read by others:"]
    lines += [
        f"  {options.variable(option)}: {option.metadata['help']}"
        for option in options.options()
        if options.is_secret(option)
    ]
    return "\n".join(lines)


def take_secrets(environ: MutableMapping[str, str]) -> dict[str, str]:
    """Return the secrets of the environment, which are no longer in it afterwards.

    Removing a variable leaves its text in the block that the kernel shows as this
    process's environment, so the process starts itself anew without it; the secrets
    pass by a descriptor that only it has.
    """
    descriptor = environ.pop(SECRETS_FD, None)
    if descriptor is not None:
        with open(int(descriptor), "rb") as file:
            kept: dict[str, str] = json.load(file)
        return kept
    secret = filter(options.is_secret, options.options())
    names = {options.variable(option) for option in secret}
    secrets = {name: environ[name] for name in names if environ.get(name)}
    if secrets:
        start_without(names, secrets, environ)
    return {}


def start_without(
    names: set[str], secrets: dict[str, str], environ: Mapping[str, str]
) -> NoReturn:
    """Start this program anew without the variables `names`, handing on `secrets`."""
    memory = os.memfd_create("secrets", 0)
    os.write(memory, json.dumps(secrets).encode())
    os.lseek(memory, 0, os.SEEK_SET)
    rest = {name: value for name, value in environ.items() if name not in names}
    rest[SECRETS_FD] = str(memory)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], rest)  # noqa: S606


def with_secrets(settings: Settings) -> Settings:
    """Return the settings with token and signing key read, or the token made."""
    token, signing_key = settings.token, settings.signing_key
    if settings.token_file:
        token = read_secret(settings.token_file)
    elif settings.token_fd >= 0:
        token = read_secret(settings.token_fd)
    if settings.signing_key_file:
        signing_key = read_secret(settings.signing_key_file)
    if settings.dev and not signing_key:
        # Made here and not in the api, so that signed URLs outlast an api process.
        signing_key = made_key()
    open_state_dir(settings.state_dir)
    if not token and not settings.no_auth and not settings.trust_network:
        if not is_loopback(settings.host):
            raise UnsafeError(
                f"listening on {settings.host} needs a token (--token-file,"
                " --token-fd or TOOLBOX_TOKEN) or --trust-network"
            )
        token, token_file = made_token(settings.state_dir)
        settings = dataclasses.replace(settings, token_file=token_file)
        sys.stderr.write(f"toolbox-agent: the token is in {token_file}\n")
    return dataclasses.replace(settings, token=token, signing_key=signing_key)


def check_safe(settings: Settings) -> None:
    """Refuse what would let anybody in.

    Raises:
        UnsafeError: `--no-auth` beyond loopback, or dev beyond it.
    """
    if settings.no_auth:
        if not is_loopback(settings.host):
            raise UnsafeError("--no-auth works on loopback addresses only")
        sys.stderr.write(
            "toolbox-agent: warning: no token is asked for; every process on this"
            " machine may use the agent\n"
        )
    if settings.dev and not is_loopback(settings.host):
        raise UnsafeError("dev listens on loopback addresses only")
    if settings.trust_network:
        sys.stderr.write(
            "toolbox-agent: warning: callers are not checked; the network in front"
            " must do it\n"
        )


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    sys.exit(main())
