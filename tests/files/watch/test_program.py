"""The program that watches, where the system's limits are low."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

RUN = (
    'echo {count} > /proc/sys/user/max_inotify_{kind} && exec "$0" -c'
    ' "import os, pty, sys;'
    " sys.exit(os.waitstatus_to_exitcode(pty.spawn([sys.executable, '-m',"
    " 'agent.files.watch.program', sys.argv[1], '1'])))\" \"$1\""
)


@pytest.mark.parametrize(
    ("kind", "count", "number"), [("watches", 3, 28), ("instances", 0, 24)]
)
def test_a_limit_of_the_system_is_told(
    tmp_path: Path, kind: str, count: int, number: int
) -> None:
    for name in "abcdef":
        (tmp_path / name).mkdir()
    script = RUN.format(kind=kind, count=count)

    done = subprocess.run(
        ["unshare", "-Ur", "sh", "-c", script, sys.executable, str(tmp_path)],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=9,
    )

    assert done.returncode == 1
    assert f'{{"error": [{number}, '.encode() in done.stdout
