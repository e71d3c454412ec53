"""Reads a Dockerfile: as much of the format as ours uses, and refuses the rest."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

KNOWN = re.compile("CMD|COPY|ENTRYPOINT|ENV|EXPOSE|FROM|HEALTHCHECK|RUN|USER|WORKDIR")


@dataclass(frozen=True)
class Instruction:
    """One instruction: `COPY --from=build /a /b` has a flag and two words."""

    name: str
    flags: dict[str, str]
    text: str

    @property
    def words(self) -> list[str]:
        """The words of a JSON array, or of a line as a shell would see them."""
        if self.text.startswith("["):
            words: list[str] = json.loads(self.text)
            return words
        return shlex.split(self.text)

    @property
    def argv(self) -> list[str]:
        """What runs: a JSON array as it is, anything else by a shell."""
        if self.text.startswith("["):
            return self.words
        return ["/bin/sh", "-c", self.text]

    def pairs(self) -> dict[str, str]:
        """Return the variables of ENV.

        Raises:
            ValueError: A value refers to another, which is not carried out here.
        """
        if "$" in self.text:
            raise ValueError(f"a variable within ENV: {self.text}")
        return dict(word.split("=", 1) for word in self.words)


@dataclass(frozen=True)
class Stage:
    """What stands from one FROM to the next."""

    base: str
    name: str
    instructions: list[Instruction]

    def last(self, name: str) -> Instruction:
        """Return the last instruction of this name, which is the one that counts."""
        return [each for each in self.instructions if each.name == name][-1]

    def all(self, name: str) -> list[Instruction]:
        """Return the instructions of this name."""
        return [each for each in self.instructions if each.name == name]


def stages(text: str) -> list[Stage]:
    """Return the stages of a Dockerfile, in order."""
    found: list[Stage] = []
    for each in instructions(text):
        if each.name == "FROM":
            base, *name = each.words
            found.append(Stage(base, name[1] if name else "", []))
        else:
            found[-1].instructions.append(each)
    return found


def instructions(text: str) -> Iterator[Instruction]:
    """Give the instructions of a Dockerfile, in order.

    Raises:
        ValueError: One is not known here.
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    for line in filter(str.strip, joined.splitlines()):
        name, _, rest = line.strip().partition(" ")
        flags: dict[str, str] = {}
        rest = rest.strip()
        while match := re.match(r"--([a-z-]+)=(\S+)\s+", rest):
            flags[match[1]] = match[2]
            rest = rest[match.end() :]
        if not KNOWN.fullmatch(name):
            raise ValueError(f"not known here: {line}")
        yield Instruction(name, flags, rest)


class Ignored:
    """The names that a `.dockerignore` file keeps out of the build."""

    def __init__(self, text: str) -> None:
        lines = [line.strip() for line in text.splitlines()]
        self._patterns = [line for line in lines if line and not line.startswith("#")]

    def __call__(self, path: str) -> bool:
        """Tell whether the path, relative to the context, is kept out."""
        ignored = False
        each = PurePosixPath(path)
        names = [str(each), *map(str, each.parents)][: len(each.parts)]
        for pattern in self._patterns:
            wanted = pattern.removeprefix("!")
            if any(_matches(name, wanted) for name in names):
                ignored = not pattern.startswith("!")
        return ignored


def _matches(name: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatchcase(PurePosixPath(name).name, pattern[3:])
    # A star does not go beyond a slash.
    return name.count("/") == pattern.count("/") and fnmatchcase(name, pattern)


def context_files(context: Path, source: str, ignored: Ignored) -> list[Path]:
    """Return the files that COPY takes from the context, relative to it."""
    start = context / source
    found = [start] if start.is_file() else sorted(start.rglob("*"))
    names = [each.relative_to(context) for each in found if each.is_file()]
    return [name for name in names if not ignored(name.as_posix())]
