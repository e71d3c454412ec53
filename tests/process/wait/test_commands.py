"""Waiting for a command's end, for a text in its log, for its silence."""

import asyncio
import os
import signal

import pytest

from agent.process.wait import commands, waits
from agent.process.wait.models import LogCondition, QuietCondition
from tests.process.wait.conftest import Desk, command, log, quiet

# -- the end ----------------------------------------------------------------------


async def test_a_command_that_has_ended_holds_at_once(desk: Desk) -> None:
    told = await desk.wait(
        command(await desk.run("exit_with() { return 3; }; exit_with"))
    )

    assert told["satisfied"]
    assert not told["timedOut"]
    assert told["held"] == [0]
    (result,) = told["conditions"]
    assert result["state"] == "held"
    assert result["command"] == {"exitCode": 3, "signal": None, "reason": "exited"}
    assert 0 <= result["afterSeconds"] <= told["durationSeconds"]


async def test_a_commands_end_is_told_when_it_comes(desk: Desk) -> None:
    command_id = await desk.start("read line; return 4")

    async with desk.waiting(command(command_id), until=lambda d: d.awaits_end) as wait:
        await desk.feed(command_id)
        told = await wait

    assert told["conditions"][0]["command"]["exitCode"] == 4


async def test_a_killed_command_has_ended_by_a_signal(desk: Desk) -> None:
    command_id = await desk.start("sh -c 'echo $$; exec sleep 600'")
    (pid,) = (await desk.wait(log(command_id, r"\d+(?=\n|$)", regex=True)))[
        "conditions"
    ]

    async with desk.waiting(command(command_id), until=lambda d: d.awaits_end) as wait:
        os.kill(int(pid["log"]["match"]), signal.SIGKILL)
        told = await wait

    facts = told["conditions"][0]["command"]
    assert (facts["exitCode"], facts["signal"]) == (137, 9)


async def test_the_end_of_a_session_is_the_end_of_its_command(desk: Desk) -> None:
    command_id = await desk.start("sleep 600")

    async with desk.waiting(command(command_id), until=lambda d: d.awaits_end) as wait:
        await desk.delete_session()
        told = await wait

    assert told["conditions"][0]["command"]["reason"] == "deleted"


async def test_a_command_that_goes_on_is_pending_at_the_limit(desk: Desk) -> None:
    told = await desk.wait(command(await desk.start("sleep 600")), limit_s=0.05)

    assert told["timedOut"]
    assert not told["satisfied"]
    assert told["held"] == []
    assert told["conditions"] == [{"index": 0, "state": "pending"}]
    assert told["durationSeconds"] >= 0.05


MORE: dict[str, dict[str, object]] = {
    "command": {},
    "log": {"pattern": "x"},
    "quiet": {"milliseconds": 10},
}


@pytest.mark.parametrize("kind", MORE)
async def test_an_unknown_command_is_not_found_at_once(desk: Desk, kind: str) -> None:
    for session_id in ("work", "none", "entrypoint"):
        named = {"sessionId": session_id, "commandId": "none"}
        body = {"conditions": [{kind: {**named, **MORE[kind]}}], "timeout": 5}

        status, told = await desk.ask(body)

        assert (status, told["code"]) == (404, "PROCESS_NOT_FOUND")


# -- a text -----------------------------------------------------------------------


async def test_a_text_that_was_written_before_is_found(desk: Desk) -> None:
    command_id = await desk.run("echo one; echo two three; echo four")

    (result,) = (await desk.wait(log(command_id, "two")))["conditions"]

    assert result["log"] == {
        "stream": "stdout",
        "match": "two",
        "line": "two three",
        "offset": 4,
        "nextOffset": 7,
    }


async def test_a_text_is_found_when_it_comes(desk: Desk) -> None:
    command_id = await desk.start("echo begun; read line; echo got $line; sleep 600")

    async with desk.waiting(
        log(command_id, "got it"), until=lambda d: d.follows
    ) as wait:
        await desk.feed(command_id, "it")
        told = await wait

    assert told["conditions"][0]["log"]["line"] == "got it"


@pytest.mark.parametrize("regex", [False, True])
async def test_a_text_is_found_across_pieces(desk: Desk, *, regex: bool) -> None:
    line = "printf 'serv'; read a; printf >&2 'noise'; printf 'er re'; read a; printf 'ady'"
    command_id = await desk.start(f"{line}; sleep 600")
    wanted = log(command_id, "server ready", regex=regex)

    async with desk.waiting(wanted, until=lambda d: d.follows) as wait:
        for seen in ("serv", "er re"):
            await desk.wait(log(command_id, seen))
            await desk.feed(command_id)
        told = await wait

    facts = told["conditions"][0]["log"]
    assert (facts["offset"], facts["nextOffset"]) == (0, 17)
    assert facts["match"] == "server ready"


async def test_a_prompt_without_a_line_end_is_found(desk: Desk) -> None:
    command_id = await desk.start("printf 'Password: '; read line")

    told = await desk.wait(log(command_id, "^Pass.*: $", regex=True))

    assert told["conditions"][0]["log"]["match"] == "Password: "


async def test_an_expression_sees_lines(desk: Desk) -> None:
    command_id = await desk.run(r"printf 'é: 1\r\nend 2\n\377 port 80 open\n'")

    wanted = [
        log(command_id, r"^end \d$", regex=True),
        log(command_id, r"^é: \d$", regex=True),
        log(command_id, r"port (\d+)", regex=True),
    ]
    told = await desk.wait(*wanted, mode="all")
    across = await desk.wait(log(command_id, r"\d\s+end", regex=True))

    end, first, port = told["conditions"]
    assert (end["log"]["offset"], end["log"]["nextOffset"]) == (7, 12)
    assert (first["log"]["line"], first["log"]["nextOffset"]) == ("é: 1", 5)
    assert (port["log"]["offset"], port["log"]["match"]) == (15, "port 80")
    assert port["log"]["line"] == "\ufffd port 80 open"
    assert across["conditions"][0]["state"] == "failed"


async def test_only_the_wanted_output_is_looked_at(desk: Desk) -> None:
    command_id = await desk.run("echo here; echo here >&2")

    told = await desk.wait(
        log(command_id, "here", stream="stderr"),
        log(command_id, "here", stream="stderr", regex=True),
        mode="all",
    )

    for result in told["conditions"]:
        assert (result["log"]["stream"], result["log"]["offset"]) == ("stderr", 5)


async def test_one_goes_on_after_an_earlier_match(desk: Desk) -> None:
    command_id = await desk.run("echo tick; echo tick; echo tick")
    offset, seen = 0, []

    for _ in range(3):
        told = await desk.wait(log(command_id, "tick", offset=offset))
        seen.append(told["conditions"][0]["log"]["offset"])
        offset = told["conditions"][0]["log"]["nextOffset"]

    assert seen == [0, 5, 10]


async def test_an_offset_behind_the_end_is_refused(desk: Desk) -> None:
    command_id = await desk.run("echo 1234")
    body = {"conditions": [log(command_id, "x", offset=6)], "timeout": 5}

    status, told = await desk.ask(body)

    assert status == 400
    assert "only 5 bytes" in told["message"]


@pytest.mark.parametrize("regex", [False, True])
async def test_an_output_that_ends_without_the_text_fails(
    desk: Desk, *, regex: bool
) -> None:
    command_id = await desk.start("read line; echo other")
    wanted = log(command_id, "never", regex=regex)

    async with desk.waiting(wanted, until=lambda d: d.follows) as wait:
        await desk.feed(command_id)
        told = await wait

    assert not told["satisfied"]
    assert not told["timedOut"]
    (result,) = told["conditions"]
    assert result["state"] == "failed"
    assert result["reason"] == "the output has ended without a match"


async def test_a_text_in_much_output_is_found(desk: Desk) -> None:
    command_id = await desk.start("seq 1 300000; printf end-of-all; sleep 600")

    told = await desk.wait(
        log(command_id, "299999\n300000\nend-of-all"),
        log(command_id, "^299999$", regex=True),
        mode="all",
    )

    literal, expression = told["conditions"]
    size = len("".join(f"{n}\n" for n in range(1, 300001)))
    assert literal["log"]["nextOffset"] == size + len("end-of-all")
    assert expression["log"]["nextOffset"] == size - len("\n300000\n")


async def test_a_line_without_an_end_is_looked_through(desk: Desk) -> None:
    command_id = await desk.start(
        "head -c 3000000 /dev/zero | tr '\\0' x; printf needle; sleep 600"
    )

    told = await desk.wait(
        log(command_id, "xneedle"),
        log(command_id, "x{9}needle$", regex=True),
        mode="all",
    )

    literal, expression = told["conditions"]
    assert literal["log"]["nextOffset"] == expression["log"]["nextOffset"] == 3000006
    assert len(literal["log"]["line"]) == 4096
    assert literal["log"]["line"].endswith("xneedle")


async def test_what_is_no_expression_is_refused(desk: Desk) -> None:
    command_id = await desk.run("true")
    body = {"conditions": [log(command_id, "(", regex=True)], "timeout": 5}

    status, told = await desk.ask(body)

    assert status == 400
    assert "missing )" in told["message"]


async def test_an_expression_without_an_end_harms_nobody(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.process.wait.expression.ANSWER_LIMIT_S", 0.3)
    command_id = await desk.start(f"echo {'a' * 60}; read line; echo b")
    bad, good = log(command_id, "(a+)+$x", regex=True), command(command_id)
    # The same line for both: the expression is tried while the other wait is answered.
    async with desk.waiting(bad, until=lambda d: d.follows) as wait:
        await desk.feed(command_id)
        assert (await desk.wait(good))["satisfied"]
        told = await wait

    assert told["conditions"][0]["reason"] == "the expression takes too long"


async def test_a_killed_expression_is_a_failure(desk: Desk) -> None:
    command_id = await desk.start("read line; echo x; sleep 600")
    wanted = log(command_id, "never", regex=True)

    async with desk.waiting(wanted, until=lambda d: d.follows) as wait:
        (program,) = [job for job in await desk.keeper.list() if job.kind == "wait"]
        os.kill(program.pid, signal.SIGKILL)
        await desk.keeper.wait(program.id)
        await desk.feed(command_id)
        told = await wait

    assert told["conditions"][0]["reason"] == "the program that tries it has ended"


async def test_expressions_are_bounded(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waits, "EXPRESSIONS_MAX", 2)
    command_id = await desk.start("sleep 600")
    wanted = [log(command_id, str(number), regex=True) for number in range(3)]

    status, _ = await desk.ask({"conditions": wanted, "timeout": 5})

    assert status == 429
    assert (await desk.wait(*wanted[:2], limit_s=0.05))["timedOut"]


# -- silence ----------------------------------------------------------------------


async def test_a_silent_command_is_quiet(desk: Desk) -> None:
    command_id = await desk.start("echo begun; sleep 600")
    await desk.wait(log(command_id, "begun\n"))

    told = await desk.wait(quiet(command_id, 100))

    assert told["conditions"][0]["quiet"] == {"offset": 6, "ended": False}
    assert told["durationSeconds"] >= 0.1


async def test_output_begins_the_silence_anew(desk: Desk) -> None:
    command_id = await desk.start(
        "for n in 1 2 3 4 5; do echo $n; sleep 0.1; done; sleep 600"
    )

    told = await desk.wait(quiet(command_id, 300))

    assert told["conditions"][0]["quiet"]["offset"] == 10


async def test_a_talking_command_is_not_quiet(desk: Desk) -> None:
    command_id = await desk.start("while echo x; do sleep 0.01; done")

    told = await desk.wait(quiet(command_id, 400), limit_s=1)

    assert told["timedOut"]


async def test_what_a_full_log_drops_is_no_silence(desk: Desk) -> None:
    command_id = await desk.start("while echo x; do sleep 0.01; done", max_bytes=4)
    while not (await desk.keeper.info(command_id)).dropped_bytes:
        """It fills its log."""

    told = await desk.wait(quiet(command_id, 300), limit_s=1)

    assert told["timedOut"]


async def test_a_command_that_has_ended_is_quiet_at_once(desk: Desk) -> None:
    command_id = await desk.run("echo 1")

    told = await desk.wait(quiet(command_id, 3_600_000))

    assert told["conditions"][0]["quiet"] == {"offset": 2, "ended": True}


async def test_the_end_while_it_is_silent_is_enough(desk: Desk) -> None:
    command_id = await desk.start("read line")

    async with desk.waiting(
        quiet(command_id, 3_600_000), until=lambda d: d.follows
    ) as wait:
        await desk.feed(command_id)
        told = await wait

    assert told["conditions"][0]["quiet"]["ended"]


async def test_a_forgotten_command_is_a_failure(desk: Desk) -> None:
    command_id = await desk.run("echo 1")
    keeper = desk.keeper
    await desk.delete_session()

    failures = [
        await asyncio.gather(each, return_exceptions=True)
        for each in (
            commands.until_ended(keeper, command_id),
            commands.until_quiet(
                keeper,
                command_id,
                QuietCondition(
                    session_id="work", command_id=command_id, milliseconds=10
                ),
            ),
            commands.until_said(
                keeper,
                command_id,
                LogCondition(session_id="work", command_id=command_id, pattern="x"),
                commands.LiteralMatcher("x"),
            ),
        )
    ]

    assert [str(each[0]) for each in failures] == ["the command was forgotten"] * 3
