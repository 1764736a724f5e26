"""The peers' environment: once per list of pins, over the product's own packages, so that vLLM is there only once."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

PINS = Path(__file__).parent / "requirements.txt"
MARKER = "peers.json"
INSTALL_LIMIT_S = 600


@dataclass(frozen=True)
class Peers:
    """The environment, and why a peer is missing from it."""

    python: str
    missing: dict[str, str]
    """First package of a line of the pins to the reason why it could not be installed."""


def pins() -> list[list[str]]:
    """Lines of pins."""
    lines = [line.split("#")[0].split() for line in PINS.read_text("utf-8").splitlines()]
    return [line for line in lines if line]


def name_of(pin: str) -> str:
    """`ray[serve]==2.60.0` is `ray`."""
    return pin.split("==", maxsplit=1)[0].split("[", maxsplit=1)[0]


def versions() -> dict[str, str]:
    """Peer to version."""
    return {name_of(pin): pin.split("==")[1] for line in pins() for pin in line}


def ensure() -> Peers:
    """The environment, made if it is not there; a peer that was missing is tried anew."""
    product = sysconfig.get_paths()["purelib"]
    digest = hashlib.sha256((PINS.read_text("utf-8") + product).encode()).hexdigest()[:16]
    folder = _home() / f"peers-{digest}"
    python = folder / "bin" / "python"
    marker = folder / MARKER
    known = json.loads(marker.read_text("utf-8")) if marker.is_file() else None
    if known is None:
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)], check=True)
        own = next((folder / "lib").glob("python*")) / "site-packages"
        (own / "product.pth").write_text(product + "\n", "utf-8")
        known = {"installed": []}
    missing = {}
    for line in pins():
        if line not in known["installed"]:
            print(f"peers: installing {' '.join(line)}", flush=True)  # noqa: T201 - a benchmark's progress
            if reason := _install(str(python), line):
                missing[name_of(line[0])] = reason
            else:
                known["installed"].append(line)
    marker.write_text(json.dumps(known), "utf-8")
    return Peers(str(python), missing)


def _home() -> Path:
    if own := os.environ.get("MAEARI_ENV_HOME"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "maeari"


def _install(python: str, line: list[str]) -> str:
    """Empty, or the reason in one line. What the product has already is not installed again."""
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *line]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"not installed within {INSTALL_LIMIT_S} s"
    errors = [text for text in done.stderr.splitlines() if text.startswith("ERROR")]
    return (errors or ["pip failed"])[-1][:200] if done.returncode else ""
