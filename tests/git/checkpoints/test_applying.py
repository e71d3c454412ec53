"""Plans are carried out whole or not at all, and never lead outside."""

import os
from pathlib import Path

import pytest

from agent.errors import AgentError, ConflictError
from agent.files.journal import Journal
from agent.git.checkpoints.applying import Restoring
from agent.git.checkpoints.ground import Ground
from agent.git.checkpoints.manifest import Manifest, ManifestWriter, Standing
from agent.git.checkpoints.plan import (
    Difference,
    Plan,
    State,
    Write,
    check_ways,
    make_plan,
)

OURS = Standing(0o644, os.geteuid(), os.getegid())
NOBODY = Manifest(uid=os.geteuid(), gid=os.getegid())


def answer(plan: Plan, content: dict[str, bytes]) -> bytes:
    """Return what git prints when it is asked for all of a plan's blobs."""
    return b"".join(
        b"%s blob %d\n%s\n" % (each.blob.encode(), len(data), data)
        for each in plan.writes
        for data in [content[each.blob]]
    )


def write(path: bytes, blob: str, **options: object) -> Write:
    given = {"is_link": False, "is_new": True, "standing": OURS, **options}
    return Write(path, blob, **given)  # type: ignore[arg-type] # a test's shorthand


def apply(
    root: Path, plan: Plan, content: dict[str, bytes], state: Path, step: int = 7
) -> None:
    ground = Ground(os.fsencode(root))
    restoring = Restoring(ground, plan, Journal(str(state)))
    try:
        check_ways(ground, plan)
        restoring.begin()
        told = answer(plan, content)
        for at in range(0, len(told), step):
            restoring.feed(told[at : at + step])
        restoring.settle()
    finally:
        restoring.discard()
        ground.close()


def names(root: Path) -> list[str]:
    return sorted(str(each.relative_to(root)) for each in root.rglob("*"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


def test_a_file_takes_the_place_of_a_directory_and_a_directory_that_of_a_file(
    root: Path, tmp_path: Path
) -> None:
    (root / "was_dir/below").mkdir(parents=True)
    (root / "was_dir/below/file").write_text("old")
    (root / "was_file").write_text("old")
    plan = Plan(
        deletes=(b"was_dir/below/file", b"was_file"),
        remove_directories=(b"was_dir/below", b"was_dir"),
        make_directories=((b"was_file", Standing(0o750, OURS.uid, OURS.gid)),),
        writes=(write(b"was_dir", "a"), write(b"was_file/new", "b")),
    )

    apply(root, plan, {"a": b"A", "b": b"B"}, tmp_path / "state")

    assert (root / "was_dir").read_bytes() == b"A"
    assert (root / "was_file/new").read_bytes() == b"B"
    assert (root / "was_file").stat().st_mode & 0o777 == 0o750
    assert names(root) == ["was_dir", "was_file", "was_file/new"]


def test_content_that_does_not_come_leaves_everything_as_it_was(
    root: Path, tmp_path: Path
) -> None:
    (root / "kept").write_text("old")
    plan = Plan(
        deletes=(b"kept",),
        make_directories=((b"new", OURS), (b"new/deep", OURS)),
        writes=(write(b"new/deep/one", "a"), write(b"new/two", "b")),
    )
    ground = Ground(os.fsencode(root))
    restoring = Restoring(ground, plan, Journal(str(tmp_path / "state")))
    told = answer(plan, {"a": b"A" * 100, "b": b"B" * 100})

    restoring.begin()
    restoring.feed(told[:-50])
    with pytest.raises(AgentError, match="does not have all"):
        restoring.settle()
    restoring.discard()
    ground.close()

    assert names(root) == ["kept"]
    assert (root / "kept").read_text() == "old"


@pytest.mark.parametrize("step", [1, 2, 64, 10_000])
def test_content_may_come_in_any_blocks(root: Path, tmp_path: Path, step: int) -> None:
    plan = Plan(writes=tuple(write(b"%d" % each, str(each)) for each in range(9)))
    content = {str(each): b"\n blob 3\n" * each for each in range(9)}

    apply(root, plan, content, tmp_path / "state", step)

    found = {each.name: each.read_bytes() for each in root.iterdir()}
    assert found == content


def test_a_link_on_the_way_is_never_followed(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "way").symlink_to(outside)
    plan = Plan(
        deletes=(b"way/victim",),
        make_directories=((b"way", OURS),),
        writes=(write(b"way/new", "a"),),
    )
    (outside / "victim").write_text("safe")

    with pytest.raises(ConflictError, match="way"):
        apply(root, plan, {"a": b"A"}, tmp_path / "state")

    assert names(outside) == ["victim"]


def test_a_link_that_the_plan_removes_makes_room_for_a_directory(
    root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "way").symlink_to(outside)
    plan = Plan(
        deletes=(b"way",),
        make_directories=((b"way", Standing(0o755, OURS.uid, OURS.gid)),),
        writes=(write(b"way/new", "a"),),
    )

    apply(root, plan, {"a": b"A"}, tmp_path / "state")

    assert (root / "way/new").read_bytes() == b"A"
    assert not (root / "way").is_symlink()
    assert names(outside) == []


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_never_written_over(
    root: Path, tmp_path: Path, make: object
) -> None:
    assert callable(make)
    make(root / "way")
    plan = Plan(writes=(write(b"way", "a"),))

    with pytest.raises(ConflictError, match="way"):
        apply(root, plan, {"a": b"A"}, tmp_path / "state")

    assert names(root) == ["way"]


def test_a_directory_with_something_unknown_in_it_is_never_replaced(
    root: Path, tmp_path: Path
) -> None:
    (root / "d/.git").mkdir(parents=True)
    (root / "d/file").write_text("x")
    plan = Plan(
        deletes=(b"d/file",), remove_directories=(b"d",), writes=(write(b"d", "a"),)
    )

    with pytest.raises(ConflictError, match=r"d/\.git"):
        apply(root, plan, {"a": b"A"}, tmp_path / "state")

    assert names(root) == ["d", "d/.git", "d/file"]


def test_modes_come_back_to_the_bit(root: Path, tmp_path: Path) -> None:
    (root / "secret").write_text("x")
    (root / "secret").chmod(0o644)
    manifest = ManifestWriter()
    (root / "like").write_text("x")
    (root / "like").chmod(0o6710)
    manifest.add(b"secret", (root / "like").stat())
    old, new = State(frozenset(), NOBODY), State(frozenset(), manifest.finish())

    plan = make_plan(old, new, [], lambda _: True)
    apply(root, plan, {}, tmp_path / "state")

    assert (root / "secret").stat().st_mode & 0o7777 == 0o6710


def test_a_plan_makes_and_removes_empty_directories() -> None:
    def manifest(*empty: bytes) -> Manifest:
        writer = ManifestWriter()
        for each in empty:
            writer.add_empty(each)
        return writer.finish()

    old = State(frozenset({b"full"}), manifest(b"gone", b"gone/below"))
    new = State(frozenset({b"full"}), manifest(b"made", b"made/below"))

    plan = make_plan(old, new, [], lambda _: True)

    assert plan.remove_directories == (b"gone/below", b"gone")
    assert [path for path, _ in plan.make_directories] == [b"made", b"made/below"]


def test_a_plan_keeps_to_the_paths_that_are_wanted() -> None:
    old, new = State(frozenset(), NOBODY), State(frozenset({b"in"}), NOBODY)
    differences = [
        Difference(b"in/a", 0, 0o100644, "a"),
        Difference(b"out", 0o100644, 0, ""),
    ]

    plan = make_plan(old, new, differences, lambda path: path.startswith(b"in/"))

    assert plan.deletes == ()
    assert [each.path for each in plan.writes] == [b"in/a"]
    assert [path for path, _ in plan.make_directories] == [b"in"]
