"""Files of a training run: written whole or not at all, by one process at a time."""

from __future__ import annotations

import errno
import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from shared.errors import EngineFailed, TrainingFailed

WAIT_S = 20.0
"""Seconds to wait for a process that trains the same and is about to end."""


def save(path: Path, content: Any) -> None:
    """Write beside and rename: a full disk or a kill leaves the last good file. Raises `TrainingFailed`."""
    fresh = path.with_suffix(".new")
    try:
        torch.save(content, fresh)
        fresh.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer hides the system's error behind its own
        fresh.unlink(missing_ok=True)
        kept = "the last good checkpoint is kept" if path.is_file() else "nothing was kept"
        raise TrainingFailed(f"{path} cannot be written ({reason(error)}); {kept}.") from error


def load(path: Path, device: torch.device | str = "cpu") -> Any:
    """What `save` wrote. Raises `TrainingFailed` where it cannot be read."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch's reader has an error of its own for every kind of damage
        raise TrainingFailed(f"{path} cannot be read; delete it to begin anew.") from error


def reason(error: BaseException) -> str:
    """Why a file could not be written, as people say it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return "the disk is full" if seen.errno != errno.EFBIG else "the file would be too large"
        seen = seen.__cause__ or seen.__context__
    return str(error).splitlines()[0] if str(error) else type(error).__name__


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else trains in `folder` meanwhile. Raises `EngineFailed`, to be tried again later."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        until = time.monotonic() + WAIT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise EngineFailed("Another process is training this recipe.") from None
                time.sleep(0.2)
        yield
