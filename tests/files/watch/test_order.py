"""What happened in one moment, in an order that is possible."""

import pytest

from agent.files.watch.order import in_order


@pytest.mark.parametrize(
    ("created", "moves", "wanted"),
    [
        (["b/c", "a", "b"], {}, ["created a", "created b", "created b/c"]),
        (["n"], {"n/a": "z"}, ["created n", "moved n/a < z"]),
        (["a"], {"b": "a"}, ["moved b < a", "created a"]),
        ([], {"a": "b", "b": "c"}, ["moved a < b", "moved b < c"]),
        ([], {"c": "b", "b": "a"}, ["moved c < b", "moved b < a"]),
        ([], {"e": "d", "f": "d/a"}, ["moved f < d/a", "moved e < d"]),
        (["z"], {"z/a": "a", "a": "b"}, ["created z", "moved z/a < a", "moved a < b"]),
        ([], {"a": "b", "b": "a"}, ["deleted b", "moved b < a", "created a"]),
        (["d"], {"d/x": "d"}, ["deleted d", "created d", "created d/x"]),
    ],
)
def test_each_comes_after_what_it_needs(
    created: list[str], moves: dict[str, str], wanted: list[str]
) -> None:
    steps = [
        f"{kind} {path} < {source}" if source else f"{kind} {path}"
        for kind, path, source in in_order(created, moves)
    ]

    assert steps == wanted


def test_a_long_chain_of_moves_takes_no_longer_than_its_length() -> None:
    moves = {f"{number + 1:06}": f"{number:06}" for number in range(20_000)}

    steps = list(in_order([], moves))

    assert [source for _, _, source in steps] == sorted(moves.values(), reverse=True)
