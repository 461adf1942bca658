"""Files that are seen whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Make a file beside its place, then move it there: a reader, or a run after a crash, sees all of it or nothing.

    That holds after a power cut, too, for a millisecond or so a file.

    Parameters
    ----------
    path : Path
        Its folder is made if need be.
    write : callable
        Writes the file at the path that it is given, which has the same name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".partial-") as folder:
        partial = Path(folder) / path.name
        write(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())  # else its name may reach the disk before its contents
        partial.replace(path)
