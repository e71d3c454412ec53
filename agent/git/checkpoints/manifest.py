"""What a checkpoint keeps beside the content: exact modes, owners, empty directories.

Git knows only whether a file is executable. The rest is one JSON document, stored as a
blob next to the files' tree. It names only what is not as usual, so most are short.
Paths are bytes; JSON has none, so each byte is written as the character of its number.
"""

import os
import stat

import msgspec

USUAL_FILE = 0o644
USUAL_PROGRAM = 0o755
USUAL_DIRECTORY = 0o755


class Standing(msgspec.Struct, frozen=True, array_like=True):
    """The mode bits and the owner of an entry."""

    mode: int
    uid: int
    gid: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a state that is not in its tree."""

    uid: int
    gid: int
    """The owner of every entry that is not named."""
    entries: dict[str, Standing] = {}
    empty: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    """What was there and is not in the tree, so that no restore deletes it."""

    def standing(self, path: bytes, usual: int) -> Standing:
        """Return the mode and owner of an entry that is `usual` when not named."""
        return self.entries.get(named(path)) or Standing(usual, self.uid, self.gid)

    def left_out(self) -> frozenset[bytes]:
        """Return the entries that were skipped."""
        return frozenset(each.encode("latin-1") for each in self.skipped)

    def empty_directories(self) -> list[bytes]:
        """Return the directories with nothing in them, parents first."""
        return sorted(each.encode("latin-1") for each in self.empty)


class ManifestWriter:
    """Collects a manifest, entry by entry."""

    def __init__(self) -> None:
        self._uid, self._gid = os.geteuid(), os.getegid()
        self._entries: dict[str, Standing] = {}
        self._empty: list[str] = []
        self._skipped: list[str] = []

    def add(self, path: bytes, found: os.stat_result) -> None:
        """Note what is unusual about an entry."""
        mode = stat.S_IMODE(found.st_mode)
        told = mode, found.st_uid, found.st_gid
        if told != (usual_mode(found.st_mode), self._uid, self._gid):
            self._entries[named(path)] = Standing(*told)

    def add_empty(self, path: bytes) -> None:
        """Note a directory with nothing in it."""
        self._empty.append(named(path))

    def add_skipped(self, path: bytes) -> None:
        """Note an entry that is left out."""
        self._skipped.append(named(path))

    def finish(self) -> Manifest:
        """Return what was collected."""
        return Manifest(
            uid=self._uid,
            gid=self._gid,
            entries=self._entries,
            empty=tuple(sorted(self._empty)),
            skipped=tuple(self._skipped),
        )


def named(path: bytes) -> str:
    """Return a path as the manifest writes it."""
    return path.decode("latin-1")


def usual_mode(mode: int) -> int:
    """Return the mode bits that an entry has when the manifest does not say."""
    if stat.S_ISDIR(mode):
        return USUAL_DIRECTORY
    if stat.S_ISLNK(mode):
        return 0o777
    return USUAL_PROGRAM if mode & stat.S_IXUSR else USUAL_FILE


def encode(manifest: Manifest) -> bytes:
    """Return a manifest as it is stored; equal ones are equal bytes."""
    return msgspec.json.encode(manifest, order="deterministic")


def decode(text: bytes) -> Manifest:
    """Return what `encode` wrote."""
    return msgspec.json.decode(text, type=Manifest)
