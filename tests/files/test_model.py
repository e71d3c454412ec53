"""Any sequence of operations leaves the files that a simple model says."""

import io
from typing import Any
from urllib.parse import quote_from_bytes

from hypothesis import HealthCheck, given, settings, strategies as st

from agent.files.uploads import BATCH_BYTES

from .conftest import Agent, strays

PATHS = st.sampled_from([b"a", b"d/a", b"d/e/a", b"d/\xff", "é 漢".encode(), b"d"])
SIZES = st.integers(0, 50) | st.sampled_from([300_000, 1_200_000])
OPERATIONS = st.lists(
    st.tuples(st.just("raw"), PATHS, SIZES)
    | st.tuples(st.just("form"), PATHS, SIZES)
    | st.tuples(st.just("bulk"), PATHS, SIZES)
    | st.tuples(st.just("cut"), PATHS, SIZES)
    | st.tuples(st.just("delete"), PATHS, st.just(0))
    | st.tuples(st.just("folder"), PATHS, st.just(0)),
    max_size=12,
)


class Model:
    """The files and directories that ought to be there."""

    def __init__(self) -> None:
        self.files: dict[bytes, bytes] = {}
        self.directories: set[bytes] = set()

    def parents(self, path: bytes) -> list[bytes]:
        """Return the directories above a path, the uppermost first."""
        parts = path.split(b"/")
        return [b"/".join(parts[:end]) for end in range(1, len(parts))]

    def can_hold(self, path: bytes) -> bool:
        """Tell whether nothing is in the way above a path."""
        return not any(parent in self.files for parent in self.parents(path))

    def store(self, path: bytes, content: bytes) -> bool:
        """Store a file; False when that cannot be."""
        if path in self.directories or not self.can_hold(path):
            return False
        self.directories.update(self.parents(path))
        self.files[path] = content
        return True

    def make(self, path: bytes) -> bool:
        """Make a directory; False when that cannot be."""
        if path in self.files or not self.can_hold(path):
            return False
        self.directories.update([*self.parents(path), path])
        return True

    def delete(self, path: bytes) -> bool:
        """Delete an entry with all below it; False when there is none."""
        if path not in self.files and path not in self.directories:
            return False
        below = path + b"/"
        self.files = {
            each: content
            for each, content in self.files.items()
            if each != path and not each.startswith(below)
        }
        self.directories = {
            each
            for each in self.directories
            if each != path and not each.startswith(below)
        }
        return True


def form(field: str, content: bytes) -> bytes:
    head = f'--XX\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n'
    return head.encode() + content + b"\r\n"


FORM = {"Content-Type": "multipart/form-data; boundary=XX"}


async def apply(
    agent: Agent, model: Model, kind: str, path: bytes, content: bytes
) -> None:
    """Do one operation on both, and compare what they say of it."""
    body, headers, url, right = b"", {}, agent.at("/files/upload-v2", path), 200
    if kind == "raw":
        expected, body = model.store(path, content), content
    elif kind == "form":
        expected, body = model.store(path, content), form("file", content) + b"--XX--"
        headers = FORM
    elif kind == "bulk":
        body = form("files[0].path", path) + form("files[0].file", content) + b"--XX--"
        expected, headers, url = (
            model.store(path, content),
            FORM,
            agent.at("/files/bulk-upload"),
        )
    elif kind == "cut":
        expected, body, headers = False, form("file", content)[:-1], FORM
        if len(content) > BATCH_BYTES and model.can_hold(path):
            # Parents that were made before the cut stay: others may count on them.
            model.directories.update(model.parents(path))
    elif kind == "folder":
        expected, url, right = model.make(path), agent.at("/files/folder", path), 201
    else:
        expected, url, right = (
            model.delete(path),
            agent.at("/files", path, recursive="true"),
            204,
        )
    method = "DELETE" if kind == "delete" else "POST"
    async with agent.client.request(
        method, url, data=io.BytesIO(body) if body else None, headers=headers
    ) as response:
        assert (response.status == right) is expected, (
            kind,
            path,
            await response.read(),
        )


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(OPERATIONS)
async def test_files_are_what_the_operations_made_of_them(
    agent: Agent, operations: list[tuple[str, bytes, int]]
) -> None:
    model = Model()
    for name in (b"a", b"d", "é 漢".encode()):
        async with agent.client.delete(agent.at("/files", name, recursive="true")):
            pass

    for number, (kind, path, size) in enumerate(operations):
        await apply(agent, model, kind, path, bytes([number]) * size)

    async with agent.client.get(agent.at("/files", depth="9")) as response:
        listed: list[dict[str, Any]] = await response.json()
    expected = sorted(
        [*model.files, *model.directories], key=lambda path: path.split(b"/")
    )
    assert [each["path"] for each in listed] == [
        path.decode("utf-8", "replace") for path in expected
    ]
    assert [each["isDir"] for each in listed] == [
        path in model.directories for path in expected
    ]
    for path, content in model.files.items():
        async with agent.client.get(agent.at("/files/download", path)) as response:
            assert await response.read() == content, quote_from_bytes(path)
    assert strays(agent.work_dir) == []
