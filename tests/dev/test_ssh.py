"""Tokens for SSH: for how long they hold, and how many."""

import pytest

from agent.dev.ssh import DEFAULT_MINUTES, MAX_ACCESSES, SshAccesses
from agent.errors import TooManyError
from tests.dev.conftest import Clock


@pytest.fixture
def accesses(clock: Clock) -> SshAccesses:
    return SshAccesses("127.0.0.1", clock)


@pytest.mark.parametrize(("asked", "minutes"), [(5, 5), (None, DEFAULT_MINUTES)])
def test_token_holds_to_its_end_and_no_longer(
    accesses: SshAccesses, clock: Clock, asked: int | None, minutes: int
) -> None:
    token = accesses.create("sb-1", asked).token
    clock.turn(minutes=minutes, seconds=-1)
    assert accesses.holds(token)

    clock.turn(seconds=1)

    assert not accesses.holds(token)


def test_tokens_are_bounded_and_those_that_ended_do_not_count(
    accesses: SshAccesses, clock: Clock
) -> None:
    for _ in range(MAX_ACCESSES):
        accesses.create("sb-1", 1)
    with pytest.raises(TooManyError):
        accesses.create("sb-1", 1)

    clock.turn(minutes=1)

    assert accesses.create("sb-1", 1).sandbox_id == "sb-1"


def test_revoking_ends_the_token_that_is_named(accesses: SshAccesses) -> None:
    first, second = (accesses.create("sb-1", 1).token for _ in range(2))

    accesses.revoke(first)

    assert (accesses.holds(first), accesses.holds(second)) == (False, True)


def test_revoking_without_a_token_ends_all(accesses: SshAccesses) -> None:
    tokens = [accesses.create("sb-1", 1).token for _ in range(2)]

    accesses.revoke()

    assert not any(map(accesses.holds, tokens))


def test_command_names_the_token_and_the_host(accesses: SshAccesses) -> None:
    access = accesses.create("sb-1", 1)

    assert access.ssh_command.endswith(f" {access.token}@127.0.0.1")
