"""Edits a set of files for ever, to be killed by a test at any moment.

    python -m tests.files.edits.endless WORK_DIR STATE_DIR

Every edit gives all files the same new content, makes one and deletes another; every
fourth one is taken back. Prints a line once the first is done.
"""

import itertools
import sys

from agent.files.edits.models import DeleteEdit, EditRequest, MoveEdit, WriteEdit
from agent.files.edits.registry import Edits

FILES = ("a", "d/b", "d/e/c", "x")


def main(work_dir: str, state_dir: str) -> None:
    """Edit until the process ends."""
    edits = Edits(work_dir, state_dir)
    edits.recover()
    for number in itertools.count():
        content = f"{number}\n" * 2000
        moved = ("come", "gone") if number % 2 else ("gone", "come")
        request = EditRequest(
            edits=[
                *(WriteEdit(path=name, content=content) for name in FILES),
                DeleteEdit(path=moved[0]),
                WriteEdit(path=f"new/{moved[1]}", content=content),
                MoveEdit(path=f"new/{moved[1]}", destination=moved[1]),
            ]
        )
        made = edits.edit_now(request)
        if number % 4 == 3 and made.id:
            edits.undo_now(made.id)
            edits.edit_now(request)
        if number == 0:
            sys.stdout.write("ready\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:3])
