"""The private repository in which the checkpoints of one directory are kept.

    <state dir>/checkpoints/<hash of the directory>.git
        refs/checkpoints/<id>   commits without parents; the message is the record
        index                   stands for the newest state, with what is known of the disk
        info/attributes         wins over every `.gitattributes`: nothing is converted
        restoring               names a restore that is under way

A commit's tree has two entries, `files` and `manifest`. Nothing is ever written into the
directory's own repository, and nothing in it is counted on: neither its objects nor its
index nor its configuration.
"""

import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import msgspec

from agent.errors import NotFoundError
from agent.git.checkpoints import manifest as manifests
from agent.git.checkpoints.manifest import Manifest
from agent.git.checkpoints.models import SkippedEntry
from agent.git.checkpoints.plan import Difference
from agent.git.guards import Setting
from agent.git.journal import Entry
from agent.git.process import Output
from agent.git.registry import Change, Repositories
from agent.git.repository import Repository
from agent.git.runner import Options

REFS = "refs/checkpoints/"
ATTRIBUTES = "* -text -eol -crlf -ident -filter -working-tree-encoding\n"
CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

EXACT: tuple[Setting, ...] = (
    # Every byte and every name as it is, whatever the user has configured.
    ("core.autocrlf", "false"),
    ("core.safecrlf", "false"),
    ("core.eol", "lf"),
    ("core.attributesFile", "/dev/null"),
    ("core.fileMode", "true"),
    ("core.symlinks", "true"),
    ("core.ignoreCase", "false"),
    ("core.precomposeUnicode", "false"),
    # Names that are dangerous elsewhere are names like any other here.
    ("core.protectHFS", "false"),
    ("core.protectNTFS", "false"),
    ("core.trustctime", "true"),
    ("core.checkStat", "default"),
    ("core.untrackedCache", "false"),
    ("core.splitIndex", "false"),
    ("core.sparseCheckout", "false"),
    ("index.sparse", "false"),
    ("core.compression", "1"),
    ("core.logAllRefUpdates", "false"),
)
PACKED: tuple[Setting, ...] = (("core.bigFileThreshold", "1"),)
"""New content goes into one pack and not into a file for each: twice as fast."""
IDENTITY = {
    "GIT_AUTHOR_NAME": "checkpoint",
    "GIT_AUTHOR_EMAIL": "checkpoint@localhost",
    "GIT_COMMITTER_NAME": "checkpoint",
    "GIT_COMMITTER_EMAIL": "checkpoint@localhost",
}

CHECK_IGNORE = ("--no-literal-pathspecs", "check-ignore", "--no-index")
"""The one command that takes no literal names; `./` before them does the same."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a checkpoint; the message of its commit."""

    id: str
    created_ns: int
    message: str
    include_ignored: bool
    files: int
    size_bytes: int
    files_changed: int
    skipped: tuple[SkippedEntry, ...]
    skipped_count: int
    restored: str = ""


class Interrupted(msgspec.Struct, frozen=True, kw_only=True):
    """A restore that is under way."""

    id: str
    before: str


class State(msgspec.Struct, frozen=True, kw_only=True):
    """One state in the store: the tree of its files, and what no tree knows."""

    tree: str
    manifest: Manifest


class Store:
    """The checkpoints of one directory.

    Args:
        repositories: Runs git.
        place: The directory below which all stores lie.
        root: The directory whose states are kept, links resolved.
    """

    def __init__(self, repositories: Repositories, place: str, root: str) -> None:
        self.root = root
        name = hashlib.sha256(os.fsencode(root)).hexdigest()[:32]
        self.git_dir = os.path.join(place, f"{name}.git")
        self._place = place
        self._repositories = repositories
        self._change: Change | None = None

    @property
    def exists(self) -> bool:
        """Whether there is anything to be asked."""
        return os.path.isdir(os.path.join(self.git_dir, "refs"))

    def make(self) -> None:
        """Make the store, or make whole what a killed agent has begun."""
        if os.path.islink(self._place) or os.path.islink(self.git_dir):
            raise NotADirectoryError(20, "Not a directory", self.git_dir)
        for name in ("objects/pack", "objects/info", "info", "refs"):
            os.makedirs(os.path.join(self.git_dir, name), mode=0o700, exist_ok=True)
        self._write("info/attributes", ATTRIBUTES.encode())
        self._write("info/exclude", b"")
        self._write("directory", os.fsencode(self.root) + b"\n")
        self._write("config", CONFIG.encode())
        self._write("HEAD", b"ref: refs/heads/none\n")
        self.sweep()

    def sweep(self) -> None:
        """Remove what a git that was killed, or had no room, has left half-made."""
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self.git_dir, "index.lock"))
        packs = os.path.join(self.git_dir, "objects", "pack")
        with suppress(OSError):
            for name in os.listdir(packs):
                if name.startswith("tmp_"):
                    os.unlink(os.path.join(packs, name))

    def remove(self) -> None:
        """Remove the store with all that is in it."""
        shutil.rmtree(self.git_dir, ignore_errors=True)

    def _write(self, name: str, content: bytes) -> None:
        path = os.path.join(self.git_dir, name)
        with open(path + "~", "wb") as file:
            file.write(content)
        os.replace(path + "~", path)

    def write_excludes(self, patterns: bytes) -> None:
        """Set what git ignores beside `.gitignore` and the user's own patterns."""
        self._write("info/exclude", patterns)

    def begin_restore(self, interrupted: Interrupted) -> None:
        """Note that a restore is under way."""
        self._write("restoring", msgspec.json.encode(interrupted))

    def end_restore(self) -> None:
        """Note that it has ended, one way or the other."""
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self.git_dir, "restoring"))

    def interrupted(self) -> Interrupted | None:
        """Return the restore that did not end."""
        path = os.path.join(self.git_dir, "restoring")
        with (
            suppress(FileNotFoundError, msgspec.MsgspecError),
            open(path, "rb") as file,
        ):
            return msgspec.json.decode(file.read(), type=Interrupted)
        return None

    def repository(self, work_tree: str | None = None) -> Repository:
        """Return the store as the runner wants it."""
        return Repository(
            path=self.root,
            git_dir=self.git_dir,
            common_dir=self.git_dir,
            work_tree=work_tree,
        )

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """Hold the store's lock; what git does inside is journalled."""
        entry = Entry(git_dirs=[os.fsencode(self.git_dir)])
        async with (
            self._repositories.locked(self.git_dir),
            self._repositories.noted(entry, self.repository(self.root)) as change,
        ):
            self._change = change
            try:
                yield
            finally:
                self._change = None

    async def read(
        self,
        *words: str,
        work_tree: str | None = None,
        stdin: bytes = b"",
        ok: tuple[int, ...] = (0,),
    ) -> Output:
        """Run a git that only looks, without an index.

        Raises:
            AgentError: It failed.
        """
        return await self._repositories.runner.run(
            words,
            repository=self.repository(work_tree),
            options=self._options(stdin=stdin, ok=ok, index="none"),
        )

    def stream(self, *words: str, stdin: bytes = b"") -> AsyncIterator[bytes]:
        """Give what a git that only looks prints.

        Raises:
            AgentError: It failed.
        """
        return self._repositories.runner.stream(
            words,
            repository=self.repository(),
            options=self._options(stdin=stdin, index="none"),
        )

    async def write(
        self, *words: str, stdin: bytes = b"", settings: Sequence[Setting] = ()
    ) -> Output:
        """Run a git that changes the store; only inside `changing`.

        Raises:
            AgentError: It failed.
        """
        assert self._change is not None  # noqa: S101 - a mistake of ours
        return await self._change.run(
            *words, options=self._options(stdin=stdin, settings=settings)
        )

    def _options(
        self,
        *,
        stdin: bytes,
        ok: tuple[int, ...] = (0,),
        settings: Sequence[Setting] = (),
        index: str = "index",
    ) -> Options:
        index_file = os.path.join(self.git_dir, index)
        return Options(
            stdin=stdin,
            ok=ok,
            settings=(*EXACT, *settings),
            variables={"GIT_INDEX_FILE": index_file, **IDENTITY},
        )

    async def records(self) -> list[Record]:
        """Return the checkpoints, newest first."""
        output = await self.read("for-each-ref", "--format=%(contents)", REFS)
        found: list[Record] = []
        for line in output.stdout.splitlines():
            with suppress(msgspec.MsgspecError):
                found.append(msgspec.json.decode(line, type=Record))
        return sorted(found, key=lambda each: each.created_ns, reverse=True)

    async def record(self, checkpoint_id: str) -> Record:
        """Return one checkpoint.

        Raises:
            NotFoundError: There is none with this id.
        """
        if self.exists:
            for each in await self.records():
                if each.id == checkpoint_id:
                    return each
        raise NotFoundError(f"no such checkpoint: {checkpoint_id}")

    async def add(self, record: Record, state: State) -> None:
        """Keep a state as a checkpoint."""
        text = manifests.encode(state.manifest)
        blob = await self.write("hash-object", "-w", "--stdin", stdin=text)
        entries = (
            f"040000 tree {state.tree}\tfiles\n100644 blob {blob.text}\tmanifest\n"
        )
        top = await self.write("mktree", stdin=entries.encode())
        commit = await self.write(
            "commit-tree", top.text, stdin=msgspec.json.encode(record)
        )
        await self.write("update-ref", REFS + record.id, commit.text)

    async def forget(self, checkpoint_ids: Sequence[str]) -> None:
        """Drop checkpoints; what only they had goes with `collect`."""
        lines = "".join(f"delete {REFS}{each}\n" for each in checkpoint_ids)
        await self.write("update-ref", "--stdin", stdin=lines.encode())

    async def collect(self) -> None:
        """Give back the space of what no checkpoint has any more."""
        await self.write("repack", "-a", "-d", "-q", "--window=5")
        # Not what is new: a difference to the working state may be on its way to a client.
        await self.write("prune", "--expire=10.minutes.ago")

    async def state(self, checkpoint_id: str) -> State:
        """Return the state that a checkpoint has kept."""
        name = REFS + checkpoint_id
        tree = await self.read("rev-parse", f"{name}:files")
        text = await self.read("cat-file", "blob", f"{name}:manifest")
        return State(tree=tree.text, manifest=manifests.decode(text.stdout))

    async def paths(self, state: State, *options: str) -> set[bytes]:
        """Return the names in a state's tree: files, or with `-d` directories."""
        words = ("ls-tree", "-r", "-z", "--name-only", "--full-tree", *options)
        output = await self.read(*words, state.tree)
        return {each for each in output.stdout.split(b"\0") if each}

    async def indexed(self) -> set[bytes]:
        """Return the names that the newest state is known to have."""
        output = await self.write("ls-files", "-z")
        return {each for each in output.stdout.split(b"\0") if each}

    def drop_index(self) -> None:
        """Forget what is known of the disk: the next state is read as a whole."""
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self.git_dir, "index"))

    async def differences(self, old: State, new: State) -> list[Difference]:
        """Return where two trees differ; a rename is a deletion and a new file."""
        words = ("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev")
        output = await self.read(*words, old.tree, new.tree)
        fields = output.stdout.split(b"\0")
        found: list[Difference] = []
        for told, path in zip(fields[::2], fields[1::2], strict=False):
            old_mode, new_mode, _, blob, _ = told.decode("ascii")[1:].split(" ")
            found.append(Difference(path, int(old_mode, 8), int(new_mode, 8), blob))
        return found

    async def count_changed(self, old_tree: str, new_tree: str) -> int:
        """Return in how many files two trees differ."""
        words = ("diff-tree", "-r", "-z", "--name-only", "--no-renames")
        output = await self.read(*words, old_tree, new_tree)
        return output.stdout.count(b"\0")

    def size_bytes(self) -> int:
        """Return what the store takes on the disk."""
        total = 0
        for top, _, names in os.walk(self.git_dir):
            for name in names:
                with suppress(OSError):
                    total += os.lstat(os.path.join(top, name)).st_size
        return total

    def packs(self) -> int:
        """Return in how many packs the content lies."""
        packs = os.listdir(os.path.join(self.git_dir, "objects", "pack"))
        return sum(1 for name in packs if name.endswith(".pack"))
