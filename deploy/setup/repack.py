"""Make a wheel for CPUs out of one that was compiled for CUDA, by leaving its compiled libraries out.

torchaudio's wheel in the default registry is such a build: its libraries refuse to load beside a CPU build of
PyTorch, and their mere presence breaks transformers, peft and sentence-transformers. The rest of the package
is plain Python and finds out by itself that there are no libraries.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zipfile
from pathlib import Path

LOCAL_VERSION = "+cpu"


def without_libraries(wheel: Path, folder: Path) -> Path:
    """Write the pure-Python `+cpu` edition of `wheel` into `folder` and return its path."""
    name, version = wheel.name.split("-")[:2]
    version = version.partition("+")[0]
    edition = f"{version}{LOCAL_VERSION}"
    target = folder / f"{name}-{edition}-py3-none-any.whl"
    record = f"{name}-{edition}.dist-info/RECORD"
    rows = []
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as sink:
        for member in source.namelist():
            if member.endswith((".so", "/", ".dist-info/RECORD")):
                continue
            path = re.sub(r"^[^/]+\.dist-info/", f"{name}-{edition}.dist-info/", member)
            content = edited(path, source.read(member), edition)
            sink.writestr(path, content)
            rows.append(record_row(path, content))
        sink.writestr(record, "\n".join([*rows, f"{record},,\n"]))
    return target


def edited(path: str, content: bytes, edition: str) -> bytes:
    """The content of one file of the wheel, changed where it states version or platform."""
    if path.endswith(".dist-info/METADATA"):
        return re.sub(rb"(?m)^Version: .*$", f"Version: {edition}".encode(), content, count=1)
    if path.endswith(".dist-info/WHEEL"):
        stale = (b"Tag:", b"Root-Is-Purelib:")
        kept = [line for line in content.splitlines() if line and not line.startswith(stale)]
        return b"\n".join([*kept, b"Root-Is-Purelib: true", b"Tag: py3-none-any", b""])
    if path.endswith("/version.py"):
        return re.sub(rb"\+cu\d+", LOCAL_VERSION.encode(), content)
    return content


def record_row(path: str, content: bytes) -> str:
    """The line of the wheel's RECORD for one file: path, checksum, size."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(content)}"
