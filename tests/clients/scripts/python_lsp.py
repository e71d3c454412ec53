"""Drives language servers of PyPI `daytona`; the arguments: sync, async or first."""

# mypy: disable-error-code="import-not-found, untyped-decorator, no-any-return"

import asyncio
import inspect
import sys
from typing import Any

from daytona import AsyncDaytona, Daytona, DaytonaConfig
from harness import failure, given, run_without_loop, scenario, tell_all

MODE = sys.argv[1]
FOLDER = "e2e-lsp-project"
# The first client takes what is relative as the home directory's, by itself.
ROOT = given["home" if MODE == "first" else "work"]
TEXT, FILE, LANGUAGE = given["text"], given["file"], given["language"]


async def done(value: Any) -> Any:
    """Return what a call of either client gives."""
    return await value if inspect.isawaitable(value) else value


async def called(function: Any, *arguments: Any) -> Any:
    return await done(function(*arguments))


async def prepared(daytona: Any, server: str = LANGUAGE) -> tuple[Any, Any, str]:
    """Return the sandbox, its language server and the path of the file."""
    sandbox = await done(daytona.create())
    await done(sandbox.fs.create_folder(FOLDER, "755"))
    await done(sandbox.fs.upload_file(TEXT.encode(), f"{FOLDER}/{FILE}"))
    lsp = sandbox.create_lsp_server(server, FOLDER)
    # The first client puts the project before relative paths by itself.
    path = FILE if MODE == "first" else f"{FOLDER}/{FILE}"
    return sandbox, lsp, path


def position(line: int, character: int) -> Any:
    """Return a place, in the only form that each client's own checks let through."""
    if MODE == "first":
        return {"line": line, "character": character}
    from daytona.common.lsp_server import LspCompletionPosition  # noqa: PLC0415

    return LspCompletionPosition(line=line, character=character)


@scenario
async def flow(daytona: Any) -> dict[str, Any]:
    _, lsp, path = await prepared(daytona)
    early = await failure(called(lsp.did_open, path))
    await done(lsp.start())
    await done(lsp.did_open(path))
    in_document = await done(lsp.document_symbols(path))
    find = lsp.workspace_symbols if MODE == "first" else lsp.sandbox_symbols
    # The first client's route is one that its own daemon never had.
    in_sandbox = await done(find("Greeter"))
    lines = TEXT.split("\n")
    completions = await done(
        lsp.completions(path, position(len(lines) - 1, len(lines[-1])))
    )
    at_zero = await done(lsp.completions(path, position(0, 0)))
    await done(lsp.did_close(path))
    await done(lsp.stop())
    late = await failure(called(lsp.document_symbols, path))
    await done(lsp.stop())
    return {
        "early": early,
        "document": [each.name for each in in_document],
        "sandbox": [each.name for each in in_sandbox],
        "uris": sorted({each.location.uri for each in in_sandbox}),
        "labels": [each.label for each in completions.items],
        "documented": sum(each.documentation is not None for each in at_zero.items),
        "late": late,
    }


@scenario
async def paths(daytona: Any) -> dict[str, Any]:
    sandbox, lsp, _ = await prepared(daytona)
    name = f"{FOLDER}/ä b#c%{FILE.removeprefix('sample')}"
    text = "def odd(): ...\n" if LANGUAGE == "python" else "function odd() {}\n"
    await done(sandbox.fs.upload_file(text.encode(), name))
    await done(lsp.start())
    found = {}
    relative = name.rpartition("/")[2] if MODE == "first" else name
    for path in (relative, f"{ROOT}/{name}"):
        symbols = await done(lsp.document_symbols(path))
        found[path[0]] = [each.name for each in symbols]
    missing = await failure(called(lsp.did_open, "no/such.py"))
    await done(lsp.stop())
    return {"found": sorted(found.values()), "missing": missing}


@scenario
async def failures(daytona: Any) -> dict[str, Any]:
    _, unknown, _ = await prepared(daytona, "cobol")
    sandbox = await done(daytona.create())
    nowhere = sandbox.create_lsp_server("python", "no-such-project")
    return {
        "unknown": await failure(called(unknown.start)),
        "nowhere": await failure(called(nowhere.start)),
    }


async def main() -> None:
    config = DaytonaConfig(api_key=given["key"], api_url=given["api"], target="local")
    async with AsyncDaytona(config) as client:
        await tell_all(client)


if __name__ == "__main__":
    if MODE == "async":
        asyncio.run(main())
    else:
        run_without_loop(
            tell_all(
                Daytona(
                    DaytonaConfig(
                        api_key=given["key"], api_url=given["api"], target="local"
                    )
                )
            )
        )
