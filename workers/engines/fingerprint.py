"""Which model this is: the version that results name and that caches are keyed by."""

from __future__ import annotations

import hashlib
from pathlib import Path

_EDGE_BYTES = 1 << 20
"""Of a large file its size and this much from both ends are read: gigabytes are told apart in milliseconds."""


def fingerprint(folder: Path) -> str:
    """Twelve hexadecimal digits that change whenever a model file in `folder` does; notes and figures do not count."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix != ".md" and path.name != "figures.json":
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            digest.update(_edges(path))
    return digest.hexdigest()[:12]


def _edges(path: Path) -> bytes:
    with path.open("rb") as file:
        start = file.read(_EDGE_BYTES)
        file.seek(max(_EDGE_BYTES, path.stat().st_size - _EDGE_BYTES))
        return start + file.read(_EDGE_BYTES)
