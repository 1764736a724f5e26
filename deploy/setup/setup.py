"""Set this checkout up: system packages, one shared Python environment, the link `.venv` to it.

    python3 deploy/setup/setup.py

Run it as often as you like; when everything is there it only looks, in well under a second. Needs nothing
but Python 3.11 or newer on Linux x86_64. The environment lies under `$MAEARI_ENV_HOME` (default
`~/.cache/maeari`), once per content of the lock, and is shared by every checkout that has the same lock.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path

OLDEST_PYTHON = (3, 11)
ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Carry out the whole set-up; the return value is the process's exit code."""
    started = time.monotonic()
    if sys.version_info < OLDEST_PYTHON:
        return refuse(f"Python 3.11 or newer is needed, this is {platform.python_version()}")
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return refuse("the pinned environment is for Linux on x86_64 alone")
    # Only now: these two modules use what older Pythons lack.
    import environment
    import system

    missing = system.install_missing()
    try:
        prefix = environment.ensure(environment_home())
        link(prefix)
    except environment.SetupError as error:
        return refuse(str(error))
    for package in missing:
        print(f"setup: without {package.name}: {package.without}", file=sys.stderr)
    print(f"setup: ready in {time.monotonic() - started:.1f} s ({prefix})")
    return 0


def refuse(reason: str) -> int:
    """Say on standard error why the set-up stops; returns the exit code for it."""
    print(f"setup: {reason}", file=sys.stderr)
    return 1


def environment_home() -> Path:
    """The folder that holds the environments of this user."""
    if own := os.environ.get("MAEARI_ENV_HOME"):
        return Path(own).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "maeari"


def link(prefix: Path) -> None:
    """Point `.venv` of this checkout to the environment; a link is replaced at once, a real folder never."""
    import environment

    venv = ROOT / ".venv"
    if venv.is_symlink() and venv.readlink() == prefix:
        return
    if venv.exists() and not venv.is_symlink():
        raise environment.SetupError(f"{venv} is a folder of its own; move it away and run the set-up again")
    fresh = ROOT / f".venv.{os.getpid()}"
    fresh.symlink_to(prefix, target_is_directory=True)
    fresh.replace(venv)


if __name__ == "__main__":
    sys.exit(main())
