"""One Python environment per content of the lock, built once under a lock and shared by all checkouts.

A virtual environment cannot be moved after it is built (its scripts name their interpreter by absolute path),
so it is built in its final place and counts only once its marker file is written, as the very last step. One
without a marker is the rest of an interrupted build and is made anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import repack

HERE = Path(__file__).resolve().parent
LOCK = HERE / "requirements-cpu.lock"
LAUNCHER = HERE / "launcher.py"
SOURCES = (LOCK, LAUNCHER, HERE / "environment.py", HERE / "repack.py")
"""What decides the environment's content; a change of any of them makes a new one."""

MARKER = ".complete"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
"""PyTorch's own public index of CPU builds; asked only where the configured registry has no such build."""

CHECK = """
import importlib.util, torch, torchaudio
assert torch.version.cuda is None, f"PyTorch {torch.__version__} is built for CUDA {torch.version.cuda}"
assert torchaudio.__version__.endswith("+cpu"), f"torchaudio {torchaudio.__version__} is no CPU build"
assert importlib.util.find_spec("torchvision") is None, "torchvision is installed"
print(f"PyTorch {torch.__version__} and torchaudio {torchaudio.__version__}, no CUDA build")
"""


class SetupError(Exception):
    """The environment cannot be made; the message says why."""


def ensure(home: Path) -> Path:
    """Return the finished environment under `home`, building it first if it is not there yet."""
    prefix = home / f"env-{fingerprint()}"
    if (prefix / MARKER).is_file():
        return prefix
    home.mkdir(parents=True, exist_ok=True)
    with exclusive(prefix.with_suffix(".lock")):
        if not (prefix / MARKER).is_file():
            Build(prefix).run()
            mention_others(prefix)
    return prefix


def fingerprint() -> str:
    """Short hash of everything that decides the environment's content, the interpreter included."""
    digest = hashlib.sha256(f"{platform.python_version()} {platform.machine()}\n".encode())
    for source in SOURCES:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock between processes; it goes away with the process, however that ends."""
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("setup: another set-up builds this environment, waiting for it", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def mention_others(prefix: Path) -> None:
    """Other checkouts may use environments of other lock contents, so they are named, not removed."""
    others = [path for path in prefix.parent.glob("env-*") if path.is_dir() and path != prefix]
    if others:
        print(f"setup: {len(others)} other environment(s) in {prefix.parent}; remove what no checkout uses")


class Build:
    """One build of an environment: numbered steps for people, everything else in a log beside it."""

    def __init__(self, prefix: Path) -> None:
        """`prefix` is the final folder; what an interrupted build left there is removed by `run`."""
        self.prefix = prefix
        self.log = prefix.with_suffix(".log")
        self.python = prefix / "bin" / "python"

    def run(self) -> None:
        """Build from nothing to the marker. Raises SetupError with the end of the log when a step fails."""
        pins = read_pins()
        self.log.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(prefix="maeari-setup-") as scratch:
            with step(1, "new environment"):
                shutil.rmtree(self.prefix, ignore_errors=True)
                self.call(sys.executable, "-m", "venv", str(self.prefix))
                self.pip("install", pins["pip"])
            with step(2, f"{pins['torch']} (about 200 MB)"):
                self.install_torch(pins["torch"])
            with step(3, f"{pins['torchaudio']}, its CUDA libraries left out"):
                self.install_torchaudio(pins["torchaudio"], Path(scratch))
            with step(4, f"the other {len(pins) - 3} packages of the lock (about 1 GB)"):
                self.pip("install", "-r", str(LOCK))
        with step(5, "launcher and checks"):
            self.install_launcher()
            print(f"setup: {self.call(str(self.python), '-c', CHECK).strip()}", flush=True)
        (self.prefix / MARKER).touch()

    def install_torch(self, pin: str) -> None:
        """Some machines' registry has the CPU build; elsewhere PyTorch's own index has it."""
        try:
            self.pip("install", pin)
        except SetupError:
            print(f"setup: the configured registry has no {pin}, asking PyTorch's own index", flush=True)
            self.pip("install", "--extra-index-url", TORCH_INDEX, pin)

    def install_torchaudio(self, pin: str, scratch: Path) -> None:
        """Make the CPU wheel out of the registry's CUDA wheel: the same bytes of Python on every machine.

        PyTorch's index has a build for CPUs too, but its compiled part belongs to the PyTorch version
        of the same day; without that part torchaudio works with any.
        """
        self.pip("download", "-d", str(scratch), pin.removesuffix("+cpu"))
        wheel = repack.without_libraries(next(scratch.glob("torchaudio-*.whl")), scratch)
        self.pip("install", str(wheel))

    def install_launcher(self) -> None:
        """`bin/maeari`: the command of whichever checkout it is called in or through."""
        target = self.prefix / "bin" / "maeari"
        target.write_text(f"#!{self.python}\n{LAUNCHER.read_text(encoding='utf-8')}", encoding="utf-8")
        target.chmod(0o755)

    def pip(self, verb: str, *arguments: str) -> None:
        """Run the environment's pip without resolving dependencies."""
        self.call(str(self.python), "-m", "pip", verb, "--quiet", "--no-deps", "--no-input", *arguments)

    def call(self, *command: str) -> str:
        """Run a command, log what it prints, return its standard output. Raises SetupError when it fails."""
        # A caller's PYTHONPATH or user site would let packages from outside shadow the pinned ones.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {"PYTHONNOUSERSITE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_USER": "0"}
        done = subprocess.run(
            command, check=False, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}")
        if done.returncode:
            end = "\n".join((done.stdout + done.stderr).splitlines()[-8:])
            raise SetupError(f"this failed: {' '.join(command)}\n{end}\nThe whole log: {self.log}")
        return done.stdout


def read_pins() -> dict[str, str]:
    """The lock as package name -> pin, e.g. `torch` -> `torch==2.13.0+cpu`."""
    lines = (line.partition("#")[0].strip() for line in LOCK.read_text(encoding="utf-8").splitlines())
    return {line.partition("==")[0]: line for line in lines if line}


@contextmanager
def step(number: int, title: str) -> Iterator[None]:
    """Print a step's title when it starts and its duration when it ends."""
    started = time.monotonic()
    print(f"setup: [{number}/5] {title} ...", flush=True)
    yield
    print(f"setup: [{number}/5] done in {time.monotonic() - started:.0f} s", flush=True)
