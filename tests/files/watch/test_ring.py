"""The newest events, and what is known to be missing."""

from agent.files.watch.ring import Ring


def test_the_oldest_falls_off_and_that_is_known() -> None:
    ring = Ring(capacity=3)
    first = ring.last
    for name in "abcde":
        ring.add("created", name, 0.0)

    assert ring.last == first + 5
    assert not ring.holds_all_after(first + 1)
    assert ring.holds_all_after(first + 2)
    assert not ring.holds_all_after(first + 6)
    assert [each.path for each in ring.after(first + 2, 2)] == ["c", "d"]
    assert [each.sequence for each in ring.after(first + 4, 9)] == [first + 5]


def test_no_number_of_an_earlier_ring_is_one_of_a_later_one() -> None:
    early = Ring(clock=lambda: 1_000_000.0)
    for _ in range(1000):
        early.add("created", "a", 0.0)
    late = Ring(clock=lambda: 1_000_000.1)

    assert not late.holds_all_after(early.last)
    assert late.last < 2**53
