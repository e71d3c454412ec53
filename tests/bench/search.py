"""Finding text and names in a large tree, against ripgrep and grep themselves."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from tests.bench.clients import fetch, request
from tests.bench.measure import Bench, Case, Row, at_most, interleaved, seconds
from tests.support.agent import Agent, running

FILES = 50_000
PER_DIRECTORY = 100
RARE, COMMON = "needle in the stack", "return value_7 "
"""What a hundred lines hold, and what one in every second file does."""
RG = "rg --no-config --no-ignore --hidden --text --line-number --no-heading"
GREP = "grep -rIF"


def search(bench: Bench) -> Iterator[Row]:
    """Measure finding text, with ripgrep and without, and finding names."""
    tree = grown(bench.directory(), FILES)
    with bench.agent() as agent:
        engine = agent.request("GET", find_target(tree, RARE)).headers
        with_ripgrep = engine["X-Toolbox-Engine"] == "ripgrep"
        for what, pattern in (("rare", RARE), ("common", COMMON)):
            words = [*RG.split(), "--fixed-strings", "-e", pattern, str(tree)]
            grep = [*GREP.split(), "-e", pattern, str(tree)]
            rival, bound = (words, 1.15) if with_ripgrep else (grep, 1.0)
            yield against(
                bench,
                agent,
                f"find of a {what} text in {FILES} files against {rival[0]}",
                find_target(tree, pattern),
                rival,
                bound,
            )
        names = [*RG.split()[:4], "--files", "--sort=path", "-g", "*7.py", str(tree)]
        rival = names if with_ripgrep else ["find", str(tree), "-name", "*7.py"]
        yield against(
            bench,
            agent,
            f"search of names among {FILES} files against {rival[0]}",
            f"/files/search?path={quote(str(tree))}&pattern=*7.py",
            rival,
            1.15,
        )
    path, python = without_ripgrep(bench)
    program = [python, "-c", "from agent.__main__ import main; main()"]
    with running(bench.directory(), env={"PATH": path}, program=program) as agent:
        answer = agent.request("GET", find_target(tree, RARE))
        if (used := answer.headers["X-Toolbox-Engine"]) != "python":
            raise RuntimeError(f"{used} searches where nothing but Python should")
        for what, pattern in (("rare", RARE), ("common", COMMON)):
            yield against(
                bench,
                agent,
                f"find of a {what} text without ripgrep against {GREP}",
                find_target(tree, pattern),
                [*GREP.split(), "-e", pattern, str(tree)],
                1.0,
            )


def without_ripgrep(bench: Bench) -> tuple[str, str]:
    """Return a PATH with what starts an agent in tests, and an interpreter.

    Neither has ripgrep beside it: the agent looks at both places. The interpreter has this
    environment's packages.
    """
    directory = bench.directory()
    for name in ("setpriv", "sh"):
        if found := shutil.which(name):
            (directory / name).symlink_to(found)
    room = bench.directory()
    here = Path(sys.prefix)
    (room / "bin").mkdir()
    (room / "lib").symlink_to(here / "lib")
    (room / "pyvenv.cfg").write_bytes((here / "pyvenv.cfg").read_bytes())
    python = room / "bin" / "python"
    python.symlink_to(Path(sys.executable).resolve())
    return str(directory), str(python)


def against(
    bench: Bench,
    agent: Agent,
    name: str,
    target: str,
    rival: Sequence[str],
    bound: float,
) -> Row:
    """Measure one request against one command."""
    asked = request(agent.port, "GET", target, {**agent.auth, "Connection": "close"})
    found, limit = interleaved(
        bench.rounds,
        lambda: seconds(lambda: fetch(agent.port, asked)) * 1000,
        lambda: command_ms(rival),
    )
    return Row(name=name, ours=found, limit=limit, unit="ms", goal=at_most(bound))


def grown(directory: Path, count: int) -> Path:
    """Fill a directory with a tree of source files of 2 to 40 KiB."""
    line = "    def method_{0}(self, value_{0}: int) -> int:\n        return value_{0} + 1\n"
    filling = [line.format(number) for number in range(100, 400)]
    for number in range(count):
        place = directory / f"package-{number // PER_DIRECTORY:03}"
        if number % PER_DIRECTORY == 0:
            place.mkdir()
        lines = filling[number % 50 : number % 50 + 20 + number * 7 % 280]
        if number % 2:
            lines.append(f"    {COMMON}+ 1\n")
        if number % (count // 100) == 0:
            lines.append(f"    # {RARE}\n")
        (place / f"module_{number}.py").write_text("".join(lines))
    return directory


def find_target(tree: Path, pattern: str) -> str:
    """Return the target of the request that finds a text."""
    return f"/files/find?path={quote(str(tree))}&pattern={quote(pattern)}"


def command_ms(words: Sequence[str]) -> float:
    """Return how long a command takes, its output read."""
    run = lambda: subprocess.run(words, stdout=subprocess.PIPE, check=False)  # noqa: E731
    return seconds(run) * 1000


CASES = (
    Case(
        name="search",
        about="text and names in 50 k files, against ripgrep and `grep -rIF`",
        run=search,
        needs=("grep",),
    ),
)
