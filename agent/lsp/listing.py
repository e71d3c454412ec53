"""What `toolbox-agent lsp list` prints: the servers that are here, and how to get others."""

import os
from collections.abc import Iterator, Mapping

from agent.errors import AgentError
from agent.lsp.candidates import Family, installed
from agent.lsp.configuration import Configuration, default_file, read


def show(environ: Mapping[str, str], file: str, project: str) -> tuple[str, int]:
    """Return what is printed, and the exit code.

    Args:
        environ: Where PATH and HOME are read.
        file: The configuration; empty: where it is looked for by default.
        project: Whose own servers count too.
    """
    try:
        configuration: Configuration = read(file or default_file(dict(environ)))
    except AgentError as error:
        return f"{error}\n", 1
    path = environ.get("PATH", os.defpath)
    lines = [
        line
        for family in configuration.families
        for line in _lines(family, project, path)
    ]
    return "\n".join(lines) + "\n", 0


def _lines(family: Family, project: str, path: str) -> Iterator[str]:
    yield f"{family.name} ({', '.join(family.languages)})"
    found = {each.candidate: each.words for each in installed(family, project, path)}
    used = next(iter(found), None)
    for candidate in family.candidates:
        words = found.get(candidate)
        mark = "*" if candidate is used else "+" if words else "-"
        rest = " ".join(words) if words else f"not here; {candidate.install}"
        yield f"  {mark} {candidate.name:28}{rest}"
