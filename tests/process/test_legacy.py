"""The command lines of old SDKs, taken apart without a shell."""

import base64

import pytest

from agent.process.legacy import unwrap


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def wrap(command: str, **environment: str) -> str:
    """Return the line that SDK 0.25.6 sends."""
    exports = "".join(
        f"export {name}=$(echo '{b64(value)}' | base64 -d);"
        for name, value in environment.items()
    )
    space = " " if exports else ""
    return f"sh -c \"{exports}{space}echo '{b64(command)}' | base64 -d | sh\""


@pytest.mark.parametrize(
    "value", ["a b", "x;echo INJECTED", "it's", 'quo"te', "$HOME", "", "ü", "a\nb"]
)
def test_values_come_out_as_they_went_in(value: str) -> None:
    wrapped = unwrap(wrap("echo hi", K=value, OTHER="1"))

    assert wrapped is not None
    assert wrapped.command == b"echo hi"
    assert wrapped.environment == {"K": value, "OTHER": "1"}


def test_a_command_without_environment_is_unwrapped_too() -> None:
    wrapped = unwrap(wrap('printf "%s\\n" "$K"; exit 3'))

    assert wrapped is not None
    assert wrapped.command == b'printf "%s\\n" "$K"; exit 3'


@pytest.mark.parametrize(
    "command",
    [
        "echo hi",
        'sh -c "echo hi"',
        wrap("x") + "; rm -rf /",
        "true; " + wrap("x"),
        wrap("x").replace("| sh", "| bash"),
        "sh -c \"echo '!!!' | base64 -d | sh\"",
        "sh -c \"echo 'abc' | base64 -d | sh\"",
        wrap("x") + "\n",
    ],
)
def test_anything_else_is_an_ordinary_command(command: str) -> None:
    assert unwrap(command) is None
