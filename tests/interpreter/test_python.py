"""Python contexts, by the contract's own vectors (33 §7)."""

from tests.interpreter.conftest import Desk


async def test_variables_outlast_a_run(desk: Desk) -> None:
    first = await desk.run("x=41")
    second = await desk.run("print(x+1)")

    assert first.ended_well
    assert not first.stdout
    assert second.ended_well
    assert second.stdout == "42\n"


async def test_an_exception_is_told_by_name_value_and_traceback(desk: Desk) -> None:
    ran = await desk.run("raise ValueError('boom')")

    assert ran.error is not None
    assert ran.error["name"] == "ValueError"
    assert ran.error["value"] == "boom"
    assert ran.error["traceback"] == (
        "Traceback (most recent call last):\n"
        '  File "<stdin>", line 1\n'
        "    raise ValueError('boom')\n"
        "ValueError: boom\n"
    )
    assert [each["type"] for each in ran.messages] == ["error", "control"]
    assert (ran.code, ran.controls) == (1000, ["completed"])
