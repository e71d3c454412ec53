"""The life of the one sandbox."""

import pytest

from agent.dev.models import CreateRequest, Labels
from agent.dev.sandboxes import Sandboxes, origin
from agent.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
)
from tests.dev.conftest import Clock, Variables


def test_sandbox_is_there_before_anybody_creates_it(sandboxes: Sandboxes) -> None:
    assert [each.id for each in sandboxes.list()] == ["sb-1"]


async def test_second_create_is_the_same_sandbox_with_nothing_left_of_the_first(
    sandboxes: Sandboxes, variables: Variables
) -> None:
    first = await sandboxes.create(
        CreateRequest(name="a", labels={"l": "1"}, env={"A": "1", "B": "1"})
    )

    second = await sandboxes.create(CreateRequest(env={"B": "2"}))

    assert second.id == first.id
    assert (second.name, second.labels, second.env) == ("sb-1", {}, {"B": "2"})
    assert variables.held == {"OLD": "1", "B": "2"}
    with pytest.raises(NotFoundError):
        sandboxes.get("a")


async def test_delete_takes_back_the_environment_that_create_gave(
    sandboxes: Sandboxes, variables: Variables
) -> None:
    await sandboxes.create(CreateRequest(env={"A": "1"}))

    deleted = await sandboxes.delete("sb-1")

    assert deleted.state == "destroyed"
    assert variables.held == {"OLD": "1"}
    assert sandboxes.get("sb-1") == deleted
    assert sandboxes.list() == []


async def test_deleted_sandbox_takes_no_orders_until_it_is_created_again(
    sandboxes: Sandboxes,
) -> None:
    await sandboxes.delete("sb-1")

    for order in (
        lambda: sandboxes.start("sb-1"),
        lambda: sandboxes.stop("sb-1"),
        lambda: sandboxes.set_labels("sb-1", Labels(labels={})),
        lambda: sandboxes.set_interval("sb-1", "autostop", "1"),
        lambda: sandboxes.create_ssh_access("sb-1", 1),
    ):
        with pytest.raises(ConflictError):
            order()
    assert (await sandboxes.create(CreateRequest())).state == "started"


async def test_delete_ends_every_ssh_access(sandboxes: Sandboxes) -> None:
    token = sandboxes.create_ssh_access("sb-1", 5).token

    await sandboxes.delete("sb-1")

    assert not sandboxes.check_ssh_access(token).valid


async def test_deleting_twice_is_no_failure(sandboxes: Sandboxes) -> None:
    await sandboxes.delete("sb-1")

    assert (await sandboxes.delete("sb-1")).state == "destroyed"


async def test_ephemeral_sandbox_is_gone_with_its_stop(sandboxes: Sandboxes) -> None:
    await sandboxes.create(CreateRequest(auto_delete_interval=0))

    assert sandboxes.stop("sb-1").state == "destroyed"


def test_every_change_moves_the_time_of_change(
    sandboxes: Sandboxes, clock: Clock
) -> None:
    before = sandboxes.get("sb-1")
    clock.turn(minutes=1)

    after = sandboxes.stop("sb-1")

    assert after.updated_at > before.updated_at
    assert after.created_at == before.created_at


def test_state_that_nobody_has_lists_nothing(sandboxes: Sandboxes) -> None:
    assert sandboxes.list(states=["archived"]) == []


def test_labels_must_be_json(sandboxes: Sandboxes) -> None:
    with pytest.raises(InvalidRequestError):
        sandboxes.list(labels="team=blue")


def test_origin_brackets_a_literal_ipv6_address() -> None:
    assert origin("::1", 1) == "http://[::1]:1"
    assert origin("127.0.0.1", 1) == "http://127.0.0.1:1"
