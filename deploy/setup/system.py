"""Debian packages that the engines need beside Python, installed when missing and rights allow it."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

APT_TIMEOUT_S = 900


@dataclass(frozen=True)
class Package:
    """A Debian package, how its presence is seen, and what does not work without it."""

    name: str
    present: Callable[[], bool]
    without: str


def has_ffmpeg() -> bool:
    """The command, which converts formats, and its shared libraries, which torchcodec loads."""
    return shutil.which("ffmpeg") is not None and ctypes.util.find_library("avutil") is not None


def has_redis() -> bool:
    """A Redis server that `maeari up` can start."""
    return any(shutil.which(name) for name in ("redis-server", "valkey-server"))


def has_venv() -> bool:
    """Debian splits `ensurepip` off its Python; without it no environment can be made."""
    return importlib.util.find_spec("ensurepip") is not None


def has_jackson() -> bool:
    """The JSON library of the Java client."""
    names = ("core", "databind", "annotations")
    return all(Path(f"/usr/share/java/jackson-{name}.jar").is_file() for name in names)


def has_junit() -> bool:
    """The test library of the Java client, with its console."""
    return Path("/usr/share/java/junit-platform-console.jar").is_file()


PACKAGES = (
    Package(
        f"python{sys.version_info.major}.{sys.version_info.minor}-venv",
        has_venv,
        "no Python environment can be made",
    ),
    Package(
        "espeak-ng",
        lambda: shutil.which("espeak-ng") is not None,
        "the formant voice is silent, so the laptop profile cannot speak",
    ),
    Package("ffmpeg", has_ffmpeg, "only WAV audio can be read, and the neural voice does not load"),
    Package("redis-server", has_redis, "the Redis 6.2 inside the Python environment is used instead"),
    Package(
        "default-jdk-headless",
        lambda: shutil.which("javac") is not None,
        "the Java client is not compiled, so `make interop` fails",
    ),
    Package("libjackson2-databind-java", has_jackson, "the Java client is not compiled, so `make interop` fails"),
    Package("junit5", has_junit, "the Java client's tests are not compiled, so `make interop` fails"),
)


def install_missing() -> list[Package]:
    """Install what is missing if that is possible without a question; returns what is still missing."""
    missing = [package for package in PACKAGES if not package.present()]
    if not missing:
        return []
    names = [package.name for package in missing]
    command = apt_command()
    if command is None:
        print(f"setup: missing system packages; as root: apt-get install {' '.join(names)}", file=sys.stderr)
        return missing
    print(f"setup: installing system packages: {' '.join(names)}", flush=True)
    run_apt(command, ["update"])
    if not run_apt(command, ["install", "-y", "--no-install-recommends", *names]):
        # One unknown name fails the whole call; the others are worth having.
        for name in names:
            run_apt(command, ["install", "-y", "--no-install-recommends", name])
    importlib.invalidate_caches()
    return [package for package in missing if not package.present()]


def apt_command() -> list[str] | None:
    """`apt-get` with the rights to install, or None where there is none or a password would be asked for."""
    if shutil.which("apt-get") is None:
        return None
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0"]
    if os.geteuid() == 0:
        return apt
    if shutil.which("sudo") is None:
        return None
    if subprocess.run(["sudo", "-n", "true"], check=False, capture_output=True).returncode:
        return None
    return ["sudo", "-n", "env", "DEBIAN_FRONTEND=noninteractive", *apt]


def run_apt(command: list[str], arguments: list[str]) -> bool:
    """Run apt-get quietly; a failure prints the end of what it said and returns False."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            [*command, *arguments],
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=APT_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        print(f"setup: apt-get {arguments[0]} took longer than {APT_TIMEOUT_S} s", file=sys.stderr)
        return False
    if done.returncode:
        print("\n".join(done.stdout.splitlines()[-5:]), file=sys.stderr)
    return done.returncode == 0
