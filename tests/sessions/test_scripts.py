"""Any script does in a session what it does in a file of its own (rows 9, 22, 23)."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from tests.sessions.conftest import Place

CORPUS = {
    "heredoc": "cat <<X\n$((1+2))\n\tX\nX\necho after",
    "quoted heredoc": "cat <<'X'\n$A `b` \\\nX\n",
    "heredoc without its end": "cat <<X\nhalf",
    "two heredocs": "cat <<A; cat <<B\na\nA\nb\nB\n",
    "indented heredoc": "cat <<-X\n\t\tin\n\tX\necho out",
    "comment last": "echo a # comment",
    "comment only": "# nothing else",
    "no newline": "printf '%s' x",
    "backslash last": "echo a \\",
    "semicolons": "echo a; ; echo b",
    "brace": "echo '}' \"}\" \\}; { echo in; }",
    "substitution": "echo $(echo $(echo deep; echo er)) `echo old`",
    "open substitution": "echo $(echo a",
    "open if": "if true; then echo a",
    "open brace": "{ echo a",
    "open quote": "echo 'a\nb",
    "open double quote": 'echo "a\nb',
    "stray done": "done",
    "stray paren": "echo a)",
    "quotes": """echo 'a b'"c" "it's" 'say "x"' \\" \\'""",
    "glob": "cd /; echo et[c] no-such-*x || :",
    "case": "case abc in a*) echo yes;; *) echo no;; esac",
    "loop": "for i in 1 2 3; do echo $i; done | while read x; do echo [$x]; done",
    "function": "f() { echo in $1; return 4; }; f a; echo $?",
    "pipe": "printf 'b\\na\\n' | sort | head -n 1",
    "last of a pipe": "true | false",
    "arithmetic": "A=5; echo $((A * 2 + 0x10))",
    "not found": "no-such-command-anywhere",
    "not executable": "/etc/passwd",
    "directory": "/etc",
    "return": "echo a; return 5; echo b",
    "return in a loop": "while :; do return 6; done",
    "status": "false; echo $?; (exit 9)",
    "redirections": "exec 3>&1; echo a >&3; exec 3>&-; echo b 2>&1 >/dev/null | cat",
    "umask": "umask 077; umask",
    "unicode": "echo 'é漢🙂'; A=ü; echo ${A}x",
    "carriage return": "echo a\r",
    "blank lines": "\n\n  \n echo a\n\n",
    "long line": "echo " + "x" * 50_000,
    "tilde": "HOME=/tmp/h; echo ~ '~'",
    "special variables": 'echo $# "$@" $-x | sed s/.*x/x/',
    "eval": "eval 'echo a; echo b'",
    "subshell exit": "(exit 3); echo $?; (cd /; exit 4)",
    "and or": "true && false || echo c",
    "not": "! true",
    "many commands": "i=0; while [ $i -lt 500 ]; do i=$((i+1)); done; echo $i",
}


@pytest.mark.parametrize("name", CORPUS)
async def test_a_script_is_run_as_if_sourced_from_a_file(
    each: Place, tmp_path: Path, name: str
) -> None:
    text = CORPUS[name]
    script = tmp_path / "script"
    script.write_text(text, newline="")
    wanted = await asyncio.to_thread(by_itself, each, script)

    command = (await each.run(text))["cmdId"]

    told = (await each.told(command))["exitCode"]
    out = (await each.logs(command, stream="stdout")).body
    err = (await each.logs(command, stream="stderr")).body
    assert (told, out) == (wanted.returncode, wanted.stdout), err
    assert bool(err) == bool(wanted.stderr)
    assert await each.out("echo on") == "on\n"


async def test_a_text_of_five_megabytes_runs(each: Place) -> None:
    text = "A='" + "x" * 5_000_000 + "'; echo ${#A}"

    assert await each.out(text) == "5000000\n"


def by_itself(place: Place, script: Path) -> subprocess.CompletedProcess[bytes]:
    """Source a file in a shell of its own."""
    return subprocess.run(
        [shell_of(place), "-c", f". {script}"],
        cwd=place.desk.agent.work_dir,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )


def shell_of(place: Place) -> str:
    """Return the shell that the place's agent was given."""
    arguments = place.desk.agent.process.args
    assert isinstance(arguments, list)
    return str(arguments[arguments.index("--shell") + 1])
