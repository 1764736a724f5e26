"""The `maeari` command inside the shared environment: runs `shared.cli` of one checkout.

The environment is shared by checkouts, so none of them is installed in it. The checkout is the one whose
`.venv/bin/maeari` was called, else the working directory or its nearest parent that is a checkout.
"""

import sys
from collections.abc import Iterator
from pathlib import Path


def candidates() -> Iterator[Path]:
    """Folders that may be the checkout, best first. The link `.venv` is deliberately not resolved."""
    called = Path(sys.argv[0]).absolute()
    if called.parent.parent.name == ".venv":
        yield called.parents[2]
    here = Path.cwd()
    yield here
    yield from here.parents


def is_checkout(folder: Path) -> bool:
    """Whether the folder is the top of a checkout of this project."""
    return (folder / "celeryconfig.py").is_file() and (folder / "shared" / "cli").is_dir()


root = next(filter(is_checkout, candidates()), None)
if root is None:
    sys.exit(f"maeari: neither {Path.cwd()} nor a folder above it is a Maeari checkout; change into one")
sys.path.insert(0, str(root))

from shared.cli import main  # noqa: E402  the checkout is importable only from here on

main()
