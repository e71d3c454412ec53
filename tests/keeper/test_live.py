"""Output that lives for as long as somebody follows it."""

import asyncio

from agent.keeper.client import Keeper, Spec
from agent.keeper.live import LAST_BYTES, MAX_BYTES, LiveOutput

MIB = 1024 * 1024
SIZE = 24 * MIB
COUNTED = ["head", "-c", str(SIZE), "/dev/zero"]


class Follower:
    """A reader that has come so far."""

    def __init__(self, offset: int) -> None:
        self.offset = offset

    def poke(self) -> None:
        """Nothing to be told."""

    def drop(self, why: str) -> None:
        """Not dropped here."""


async def test_output_with_nobody_following_drains_and_its_end_is_kept(
    keeper: Keeper,
) -> None:
    job = await keeper.spawn(
        Spec(
            argv=["sh", "-c", f"head -c {SIZE} /dev/zero; printf last"],
            output="split",
            live=True,
        )
    )

    told = await keeper.wait(job.id)

    assert told.output_bytes == SIZE + 4
    info = await keeper.info(job.id)
    assert info.stored_bytes - info.first_offset <= 2 * LAST_BYTES
    piece = await keeper.read(job.id, info.first_offset)
    assert b"".join(each.data for each in piece.chunks).endswith(b"last")


async def test_a_follower_gets_all_streams_in_order_and_without_a_gap(
    keeper: Keeper,
) -> None:
    script = 'read go; for i in $(seq 500); do echo "o$i"; echo "e$i" >&2; done'
    job = await keeper.spawn(
        Spec(argv=["sh", "-c", script], output="split", stdin="pipe", live=True)
    )
    async with keeper.subscribe(job.id, -1) as output:
        await keeper.write(job.id, b"go\n")
        chunks = [chunk async for chunk in output]

    offset = 0
    for chunk in chunks:
        assert chunk.offset == offset
        offset += len(chunk.data)
    for stream, letter in ((1, "o"), (2, "e")):
        text = b"".join(each.data for each in chunks if each.stream == stream)
        assert text.decode().split() == [f"{letter}{i}" for i in range(1, 501)]


async def test_a_slow_follower_makes_the_job_wait_and_loses_nothing(
    keeper: Keeper,
) -> None:
    job = await keeper.spawn(
        Spec(
            argv=["sh", "-c", f"read go; head -c {SIZE} /dev/zero"],
            stdin="pipe",
            output="split",
            live=True,
        )
    )
    taken = 0
    async with keeper.subscribe(job.id, -1, window_bytes=64 * 1024) as output:
        await keeper.write(job.id, b"go\n")
        async for chunk in output:
            taken += len(chunk.data)
            if taken % (4 * MIB) < 64 * 1024:
                # Long enough for the rest to come, if nothing held it up.
                await asyncio.sleep(0.02)
                info = await keeper.info(job.id)
                assert info.output_bytes - taken < 3 * MIB

    assert taken == SIZE


async def test_a_follower_that_leaves_lets_the_job_go_on(keeper: Keeper) -> None:
    job = await keeper.spawn(
        Spec(argv=COUNTED, output="split", live=True),
    )
    async with keeper.subscribe(job.id, 0, window_bytes=4096) as output:
        await anext(output)

    assert (await keeper.wait(job.id)).output_bytes == SIZE


def test_what_no_follower_takes_has_a_bound() -> None:
    output = LiveOutput()
    output.readers = [Follower(0)]
    piece = memoryview(bytes(MIB))

    for _ in range(2 * MAX_BYTES // MIB):
        output.append(piece, 1)

    assert output.total - output.first_offset <= MAX_BYTES + MIB
    assert output.dropped == output.first_offset
    runs, content, _ = output.read(0, 0, 10)
    assert runs[0].offset == output.first_offset
    assert len(content) == 10


def test_many_small_pieces_are_forgotten_once_they_were_taken() -> None:
    output = LiveOutput()
    follower = Follower(0)
    output.readers = [follower]

    for number in range(1000):
        output.append(memoryview(b"x"), 1 + number % 2)
    before = output.first_offset
    follower.offset = output.total
    output.append(memoryview(b"y"), 3)

    assert before == 0
    assert output.total - output.first_offset <= 64
