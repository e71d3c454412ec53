"""`python -m tests.bench`: measures the agent against limits taken in the same run.

Only the ratios mean something: absolute figures move by a third on a shared machine. It
measures and does not judge: the exit code is 0, unless `--check` asks otherwise.
"""

import argparse
import compileall
import json
import os
import platform
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

import agent
from tests.bench import (
    archive,
    code_run,
    execute,
    git,
    interpreter,
    listing,
    lsp,
    ports,
    proxy,
    pty,
    requests,
    search,
    sessions,
    small_files,
    stall,
    start,
    transfer,
)
from tests.bench.measure import MIB, Bench, Case, Row

CASES: tuple[Case, ...] = (
    *start.CASES,
    *requests.CASES,
    *execute.CASES,
    *sessions.CASES,
    *interpreter.CASES,
    *code_run.CASES,
    *lsp.CASES,
    *transfer.CASES,
    *listing.CASES,
    *small_files.CASES,
    *search.CASES,
    *archive.CASES,
    *git.CASES,
    *pty.CASES,
    *proxy.CASES,
    *ports.CASES,
    *stall.CASES,
)
PACKAGES = {"nginx": "nginx-light", "taskset": "util-linux"}
"""Of programs whose package has another name."""
BUSY_LOAD = 0.5
"""From here on what needs both processors at once, as we do and the limits do not, waits."""
NOT_MEASURED = (
    "execute with 1 GB in the api's memory (the keeper starts commands, not the api)",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases that were asked for; return the exit code."""
    asked = parser().parse_args(arguments)
    # Ended from outside, it still ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    chosen = [each for each in CASES if not asked.cases or each.name in asked.cases]
    say(
        f"Python {platform.python_version()}, {os.cpu_count()} processors,"
        f" load {os.getloadavg()[0]:.2f}, {asked.rounds} rounds"
    )
    if os.getloadavg()[0] > BUSY_LOAD:
        say(
            "the machine is busy with other work: start and execute look worse than they are"
        )
    chosen = [each for each in chosen if is_possible(each)]
    for each in NOT_MEASURED:
        say(f"not measured: {each}")
    # As in the image, whatever this shell's PYTHONDONTWRITEBYTECODE says: a start that
    # compiles takes several times as long.
    compileall.compile_dir(Path(agent.__file__).parent, quiet=1)
    say(f"\n{'':66}{'ours':>10} {'limit':>10} {'unit':6} {'ratio':>7}  goal")
    rows: dict[str, list[Row]] = {}
    failed = []
    with tempfile.TemporaryDirectory(prefix="toolbox-bench-") as scratch:
        bench = Bench(Path(scratch), asked.rounds, asked.size_mib * MIB)
        for case in chosen:
            try:
                for row in case.run(bench):
                    rows.setdefault(case.name, []).append(row)
                    say(line(case, row))
            except Exception:  # noqa: BLE001 - the other cases are still worth having
                failed.append(case.name)
                say(f"{case.name}: failed\n{traceback.format_exc()}")
    missed = [row for each in rows.values() for row in each if row.reached is False]
    say(f"\n{len(missed)} goals missed, {len(failed)} cases failed")
    if asked.json:
        asked.json.write_text(json.dumps(report(rows, failed), indent=2) + "\n")
    return 1 if asked.check and (missed or failed) else 0


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    found = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Measure the agent against limits taken in the same run.",
        epilog="cases:\n" + "\n".join(f"  {c.name:15} {c.about}" for c in CASES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [case.name for case in CASES]
    found.add_argument(
        "cases", nargs="*", metavar="case", choices=[*names, []], help="all by default"
    )
    found.add_argument("--rounds", type=int, default=5, help="default 5")
    found.add_argument(
        "--size-mib", type=int, default=1024, help="of a large file (default 1024)"
    )
    found.add_argument("--json", type=Path, metavar="FILE", help="write all values")
    found.add_argument(
        "--check", action="store_true", help="exit 1 when a goal is missed"
    )
    return found


def is_possible(case: Case) -> bool:
    """Tell whether this machine has what a case needs, and say so if not."""
    missing = case.missing()
    if not missing:
        return True
    packages = [PACKAGES.get(each, each) for each in missing if each != "root"]
    advice = [f"apt-get install {' '.join(packages)}"] if packages else []
    if "root" in missing:
        advice.append("run as root, because the agent hides its memory from others")
    say(f"left out: {case.name} ({case.about}): {'; '.join(advice)}")
    return False


def line(case: Case, row: Row) -> str:
    """Return what is printed of a row."""
    ours = sorted(row.ours)[len(row.ours) // 2]
    limit = figure(sorted(row.limit)[len(row.limit) // 2]) if row.limit else ""
    ratio = f"{row.value:.2f}" if row.limit else ""
    goal = str(row.goal) if row.goal else ""
    verdict = {True: "reached", False: "MISSED", None: ""}[row.reached]
    note = f"  ({row.note})" if row.note else ""
    return (
        f"{case.name:15}{row.name:51}{figure(ours):>10} {limit:>10} {row.unit:6}"
        f" {ratio:>7}  {goal:7} {verdict}{note}"
    )


def figure(value: float) -> str:
    """Return a value with about three digits that count."""
    return f"{value:.0f}" if abs(value) >= 100 or value == 0 else f"{value:.3g}"


def report(rows: dict[str, list[Row]], failed: list[str]) -> dict[str, object]:
    """Return everything that was measured, for `--json`."""
    return {
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "failed": failed,
        "rows": [
            {
                "case": case,
                "name": row.name,
                "ours": row.ours,
                "limit": row.limit,
                "unit": row.unit,
                "value": row.value,
                "goal": str(row.goal) if row.goal else None,
                "reached": row.reached,
            }
            for case, found in rows.items()
            for row in found
        ],
    }


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
