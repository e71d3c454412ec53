"""The user's own word on language servers: one small TOML file.

[limits]                       # seconds, and how many servers run at once
request = 30

[python]
command = ["/opt/tools/bin/pylsp"]   # this one, and no other
order = ["pylsp", "ty"]              # or: these first, in this order

[python.settings]              # what the server is told when it asks
"python.analysis" = { typeCheckingMode = "strict" }

[python.initializationOptions]
anything = true

[toml]                         # a language that we do not know
command = ["taplo", "lsp", "stdio"]
languages = ["toml"]
suffixes = { ".toml" = "toml" }
"""

import dataclasses
import os
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from agent.errors import AgentError
from agent.lsp.candidates import FAMILIES, Candidate, Family

FILE = "lsp.toml"
FILE_MAX_BYTES = 256 * 1024

Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long things may take, and how many there may be."""

    initialize: Seconds = 60.0
    request: Seconds = 30.0
    shutdown: Seconds = 5.0
    exit: Seconds = 2.0
    servers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 8


class Choice(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What the file says of one family."""

    command: list[str] = []
    order: list[str] = []
    languages: list[str] = []
    suffixes: dict[str, str] = {}
    settings: dict[str, object] = {}
    initialization_options: dict[str, object] = {}
    environment: dict[str, str] = {}


@dataclass(frozen=True)
class Configuration:
    """All that the file says, and what holds without it."""

    limits: Limits = field(default_factory=Limits)
    families: tuple[Family, ...] = FAMILIES
    choices: dict[str, Choice] = field(default_factory=dict)

    def choice(self, family: Family) -> Choice:
        """Return what is said of a family."""
        return self.choices.get(family.name, Choice())


def default_file(environment: dict[str, str]) -> str:
    """Return where the file is looked for, by the environment of new commands."""
    home = environment.get("HOME") or os.path.expanduser("~")
    base = environment.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    return os.path.join(base, "toolbox-agent", FILE)


def read(path: str) -> Configuration:
    """Return the configuration in a file; without one, what holds anyway.

    Raises:
        AgentError: It cannot be read; the message says where and why.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(FILE_MAX_BYTES).decode()
    except FileNotFoundError:
        return Configuration()
    except (OSError, UnicodeDecodeError) as error:
        raise AgentError(f"{path}: {error}") from error
    # By the first file: it takes 10 ms.
    import tomllib  # noqa: PLC0415

    try:
        given = tomllib.loads(text)
        limits = msgspec.convert(given.pop("limits", {}), Limits, strict=False)
        choices = msgspec.convert(given, dict[str, Choice])
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise AgentError(f"{path}: {error}") from error
    return _applied(limits, choices)


def _applied(limits: Limits, choices: dict[str, Choice]) -> Configuration:
    known = {family.name: family for family in FAMILIES}
    for name, choice in choices.items():
        family = known.get(name, Family(name=name, languages=(name,), candidates=()))
        candidates = _ordered(family.candidates, choice.order)
        if choice.command:
            program, *arguments = choice.command
            candidates = (
                Candidate(
                    name=os.path.basename(program),
                    program=program,
                    arguments=tuple(arguments),
                    install=f"{program} is named by the configuration",
                ),
            )
        known[name] = dataclasses.replace(
            family,
            candidates=candidates,
            languages=tuple(choice.languages) or family.languages,
            suffixes={**family.suffixes, **choice.suffixes},
        )
    return Configuration(limits, tuple(known.values()), choices)


def _ordered(
    candidates: tuple[Candidate, ...], order: list[str]
) -> tuple[Candidate, ...]:
    first = [each for name in order for each in candidates if each.name == name]
    return (*first, *(each for each in candidates if each not in first))
