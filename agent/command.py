"""The options of `serve` and `dev`, read and checked, and the step from there to the keeper.

That step is an execve: the keeper begins anew in this process, without the weight of what
is imported here and without a secret in the environment that the kernel shows of it.
"""

import argparse
import dataclasses
import ipaddress
import os
import signal
import sys
from typing import NoReturn

from agent import settings as options
from agent.keeper.early import EarlyApi, interpreter_flags, package_root
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
DEV_ONLY = {"dev_port", "preview_port"}
"""Options of the other command's listeners."""


class UnsafeError(SettingsError):
    """Serving like this would let anybody in."""


def answer(words: list[str]) -> int:
    """Answer the words that only ask something; return the exit code."""
    if words == ["--version"]:
        sys.stdout.write(f"toolbox-agent {VERSION}\n")
        return 0
    try:
        settings = options.load({}, os.environ).settings
    except SettingsError as error:
        return refuse(error)
    if words == ["healthcheck"]:
        from agent.healthcheck import healthcheck  # noqa: PLC0415 - this word's only

        return healthcheck(settings)
    if words == ["lsp", "list"]:
        from agent.lsp import listing  # noqa: PLC0415 - these words' only

        text, code = listing.show(os.environ, settings.lsp_config, os.getcwd())
        sys.stdout.write(text)
        return code
    from agent.entrypoint_logs import show  # noqa: PLC0415 - these words' only

    return show(settings, follow="--follow" in words)


def show_help(words: list[str]) -> int:
    """Print the help that `words` ask for."""
    parser().parse_args(words)
    return 0


def refuse(error: SettingsError) -> int:
    """Say in one line why the agent does not start; return the exit code."""
    sys.stderr.write(f"toolbox-agent: {error}\n")
    unsafe = isinstance(error, UnsafeError | UnsafeStateError)
    return EXIT_CONFIGURATION if unsafe else EXIT_USAGE


def become_keeper(words: list[str], early: EarlyApi, started_as: int) -> int:
    """Become the keeper; return an exit code only when that cannot be.

    Args:
        words: The command line, from `serve` or `dev` on.
        early: The api that was started already.
        started_as: The process id by which a service manager knows the agent.
    """
    # A signal that comes before there is anybody to hear it waits until there is.
    signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
    )
    try:
        settings, directory = read(words)
        os.chdir(directory)
    except SettingsError as error:
        return refuse(error)
    return _execute(settings, directory, early, started_as)


def read(words: list[str]) -> tuple[Settings, str]:
    """Return the settings and the work dir that `words` and the environment say.

    Raises:
        SettingsError: An option cannot be used, or is not safe.
    """
    before, entrypoint = words, []
    if "--" in words:
        place = words.index("--")
        before, entrypoint = words[:place], words[place + 1 :]
    given = vars(parser().parse_args(before))
    command = given.pop("command")
    loaded = options.load(
        {name: value for name, value in given.items() if value is not None},
        os.environ,
        entrypoint=entrypoint,
        dev=command == "dev",
    )
    check_safe(loaded.settings)
    settings = with_secrets(loaded.settings)
    for warning in loaded.warnings:
        sys.stderr.write(f"toolbox-agent: warning: {warning}\n")
    return settings, options.work_dir(settings, os.environ)


def _execute(
    settings: Settings, directory: str, early: EarlyApi, started_as: int
) -> NoReturn:
    """Start the keeper in this process's place."""
    memory = os.memfd_create("settings", 0)
    os.write(memory, settings.to_json())
    os.lseek(memory, 0, os.SEEK_SET)
    early.line.set_inheritable(True)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(options.VARIABLE_PREFIX)
    }
    program = os.path.join(package_root(), "agent", "keeper", "__main__.py")
    numbers = (early.pid, early.line.fileno(), started_as)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(  # noqa: S606 - no shell is wanted
        sys.executable,
        [
            sys.executable,
            *interpreter_flags(),
            "-S",
            program,
            str(memory),
            directory,
            *map(str, numbers),
        ],
        environment,
    )


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
            "  lsp list                  print the language servers that are here (* is used)\n"
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
                name == "dev" or option.name not in DEV_ONLY
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
