"""What opens a preview, for how long, and what it does not open."""

import dataclasses

import pytest

from agent.dev.previews.tokens import (
    ASKED_PORT,
    COOKIE_LIFETIME_S,
    SIGNED_MAX,
    TOOLBOX_PORT,
    Tokens,
)
from agent.errors import NotFoundError, TooManyError
from agent.settings import Settings
from tests.dev.conftest import TOKEN, Clock, Store


@pytest.fixture
def tokens(settings: Settings, store: Store, clock: Clock) -> Tokens:
    return Tokens(settings, store, clock.unix)


def test_token_of_a_port_opens_that_port_only(tokens: Tokens) -> None:
    token = tokens.of_port(3000)

    assert tokens.opens(3000, token)
    assert not tokens.opens(3001, token)
    assert not tokens.opens(TOOLBOX_PORT, token)
    for wrong in ("", "é", token[:-1], token + "0", "\udcff"):
        assert not tokens.opens(3000, wrong)


def test_agents_token_opens_every_port(tokens: Tokens) -> None:
    assert tokens.opens(3000, TOKEN)
    assert tokens.opens(22222, TOKEN)


@pytest.mark.parametrize("port", [ASKED_PORT, TOOLBOX_PORT])
def test_ports_whose_token_is_shown_to_the_toolbox_have_its_own(
    tokens: Tokens, port: int
) -> None:
    assert tokens.of_port(port) == TOKEN


def test_without_a_token_of_the_agent_an_empty_one_opens_nothing(
    settings: Settings, store: Store
) -> None:
    tokens = Tokens(dataclasses.replace(settings, token="", no_auth=True), store)

    for port in (3000, TOOLBOX_PORT):
        assert tokens.opens(port, tokens.of_port(port))
        assert not tokens.opens(port, "")


def test_tokens_of_ports_follow_from_the_agents_secrets(
    settings: Settings, store: Store
) -> None:
    of = [
        Tokens(each, store).of_port(3000)
        for each in (
            settings,
            settings,
            dataclasses.replace(settings, token="other"),
            dataclasses.replace(settings, signing_key="other"),
        )
    ]

    assert of[0] == of[1]
    assert len(set(of)) == 3


async def test_signed_token_opens_its_port_until_its_time_is_up(
    tokens: Tokens, clock: Clock
) -> None:
    token = await tokens.sign(3000, 60)
    assert tokens.is_signed_for(3000, token)
    assert not tokens.is_signed_for(3001, token)
    assert not tokens.opens(3000, token)

    clock.turn(seconds=59)
    assert tokens.is_signed_for(3000, token)
    clock.turn(seconds=1)

    assert not tokens.is_signed_for(3000, token)


async def test_expired_by_hand_a_signed_token_opens_nothing_and_others_go_on(
    tokens: Tokens,
) -> None:
    first, second = await tokens.sign(3000, 60), await tokens.sign(3000, 60)

    await tokens.expire(3000, first)

    assert not tokens.is_signed_for(3000, first)
    assert tokens.is_signed_for(3000, second)
    for port, token in ((3000, first), (3001, second), (3000, "")):
        with pytest.raises(NotFoundError):
            await tokens.expire(port, token)
    await tokens.expire_all()
    assert not tokens.is_signed_for(3000, second)


async def test_next_api_process_knows_what_was_signed_and_what_was_revoked(
    tokens: Tokens, settings: Settings, store: Store, clock: Clock
) -> None:
    kept, revoked = await tokens.sign(3000, 60), await tokens.sign(3000, 60)
    await tokens.expire(3000, revoked)

    following = Tokens(settings, store, clock.unix)
    await following.open()

    assert following.is_signed_for(3000, kept)
    assert not following.is_signed_for(3000, revoked)


async def test_signed_tokens_are_bounded_and_those_that_ended_do_not_count(
    tokens: Tokens, clock: Clock
) -> None:
    for _ in range(SIGNED_MAX):
        await tokens.sign(3000, 60)
    with pytest.raises(TooManyError):
        await tokens.sign(3000, 60)

    clock.turn(seconds=60)

    assert tokens.is_signed_for(3000, await tokens.sign(3000, 60))


def test_cookie_opens_its_port_for_an_hour_and_cannot_be_changed(
    tokens: Tokens, clock: Clock
) -> None:
    value = tokens.cookie(3000)
    expires, proof = value.split(".")
    assert tokens.is_cookie_of(3000, value)
    for port, changed in (
        (3001, value),
        (3000, f"{int(expires) + 1}.{proof}"),
        (3000, f"{expires}."),
        (3000, proof),
        (3000, f"².{proof}"),
        (3000, ""),
    ):
        assert not tokens.is_cookie_of(port, changed)

    clock.turn(seconds=COOKIE_LIFETIME_S)

    assert not tokens.is_cookie_of(3000, value)
