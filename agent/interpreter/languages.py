"""The languages of contexts: what runs their workers, and how those are asked.

Every worker is a program of this package, started by its absolute path: nothing that lies
in a directory which others can write to is ever run. What is asked of one is a frame on its
standard input; what it says comes as `merging.py` tells.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from agent import wire
from agent.errors import InvalidRequestError, TooLargeError

PART_CHARACTERS = 64 * 1024
"""Code goes in parts of this, since a worker's queue holds no more than 1 MiB; a character
has at most twelve bytes in JSON."""

SCRIPT_MAX_BYTES = 512 * 1024
"""Of a run in bash, which reads its whole code at once."""

PROGRAMS = Path(__file__).with_name("programs")


class Asked(msgspec.Struct, frozen=True):
    """A run as a worker is told of it.

    Attributes:
        run: Its name.
        mark: See `merging.py`.
    """

    run: str
    mark: str
    code: str
    envs: Mapping[str, str | None]
    rich: bool


class Language:
    """One language.

    Args:
        name: Its name on the wire.
        programs: What may run its worker; the first that is on PATH does.
        arguments: What follows.
    """

    exits = False
    """Whether code may end its worker, as the end of its run."""

    def __init__(self, name: str, programs: tuple[str, ...], *arguments: str) -> None:
        self.name = name
        self.programs = programs
        self.arguments = arguments

    def frames(self, asked: Asked) -> list[bytes]:
        """Return the frames of a run; after each but the last, `more` is waited for."""
        code, size = asked.code, PART_CHARACTERS
        starts = range(0, max(0, len(code) - size), size)
        parts = [code[start : start + size] for start in starts]
        rest = msgspec.structs.replace(asked, code=code[len(parts) * size :])
        return [*(self._part(asked.run, each) for each in parts), self._whole(rest)]

    def _part(self, run: str, code: str) -> bytes:
        return _sized(wire.encode({"run": run, "part": code}))

    def _whole(self, asked: Asked) -> bytes:
        return _sized(wire.encode(asked))


class Python(Language):
    """Python, which reads words with their sizes: its own JSON takes long to load."""

    def _part(self, run: str, code: str) -> bytes:
        return _words([run, "part", code])

    def _whole(self, asked: Asked) -> bytes:
        rich = "rich" if asked.rich else ""
        words = [asked.run, "run", asked.code, asked.mark, rich]
        return _words([*words, *_pairs(asked.envs)])


class Bash(Language):
    """Bash, which reads words that end in NUL and nothing else."""

    exits = True

    def frames(self, asked: Asked) -> list[bytes]:
        """Return the one frame of a run.

        Raises:
            TooLargeError: The code is.
            InvalidRequestError: It has a NUL character.
        """
        words = [asked.mark, asked.code, str(len(asked.envs)), *_pairs(asked.envs)]
        text = "".join(f"{word}\0" for word in words).encode()
        if text.count(b"\0") != len(words):
            raise InvalidRequestError("code for bash cannot have NUL characters")
        if len(text) > SCRIPT_MAX_BYTES:
            raise TooLargeError(f"code for bash has at most {SCRIPT_MAX_BYTES} bytes")
        return [text]


def _sized(text: bytes) -> bytes:
    return len(text).to_bytes(4, "big") + text


def _words(words: list[str]) -> bytes:
    return _sized(b"".join(_sized(word.encode()) for word in words))


def _pairs(envs: Mapping[str, str | None]) -> list[str]:
    """Return names and values; `=value`, or nothing where one is to be removed."""
    return [
        word
        for name, value in envs.items()
        for word in (name, "" if value is None else f"={value}")
    ]


def _node(name: str) -> Language:
    return Language(name, ("node",), str(PROGRAMS / "node_worker.mjs"), name)


CHARTS = PROGRAMS.parents[1] / "process" / "coderun" / "programs"
"""What reads figures into charts; code-run has it for the same purpose."""

_ALL = (
    Python(
        "python", ("python3", "python"), str(PROGRAMS / "python_worker.py"), str(CHARTS)
    ),
    _node("javascript"),
    _node("typescript"),
    Bash("bash", ("bash",), "--noprofile", "--norc", str(PROGRAMS / "bash_worker.sh")),
)
_BY_NAME = {each.name: each for each in _ALL}


def language_of(name: str) -> Language:
    """Return the language of a name.

    Raises:
        InvalidRequestError: There is none.
    """
    if name not in _BY_NAME:
        raise InvalidRequestError(f"unsupported language: {name}")
    return _BY_NAME[name]
