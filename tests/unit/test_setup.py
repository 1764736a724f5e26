"""The set-up: what the lock promises, one environment per lock content, the launcher, system packages."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import threading
import tomllib
import zipfile
from pathlib import Path

import pytest

import environment
import repack
import setup
import system

ROOT = Path(__file__).resolve().parents[2]
GPU_ONLY = {"vllm"}
"""Packages of the extras that the lock of a CPU machine leaves out."""


def canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def locked() -> dict[str, str]:
    return {canonical(name): pin.partition("==")[2] for name, pin in environment.read_pins().items()}


def declared() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    return [*project["dependencies"], *(item for extra in extras for item in extra)]


def test_every_declared_version_is_the_locked_one() -> None:
    pins = locked()
    for item in declared():
        name, equals, version = item.partition("==")
        if canonical(name) in GPU_ONLY:
            continue
        assert canonical(name) in pins, f"{name} is declared but not locked"
        assert equals and version == pins[canonical(name)], f"{item} differs from the lock"


def test_the_lock_holds_no_build_for_gpus() -> None:
    pins = locked()
    assert pins["torch"].endswith("+cpu")
    assert pins["torchaudio"].endswith("+cpu")
    assert not {"torchvision", "triton", "cupy"} & set(pins)
    assert not [name for name in pins if name.startswith("nvidia")]


def test_the_lock_names_each_package_once() -> None:
    lines = [line for line in environment.LOCK.read_text().splitlines() if "==" in line and line[0] != "#"]
    assert len(lines) == len(environment.read_pins())


@pytest.fixture
def cuda_wheel(tmp_path: Path) -> Path:
    """A wheel that looks like torchaudio's build for CUDA."""
    wheel = tmp_path / "torchaudio-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("torchaudio/__init__.py", "from .version import __version__\n")
        archive.writestr("torchaudio/version.py", "__version__ = '2.11.0+cu130'\n")
        archive.writestr("torchaudio/lib/_torchaudio.so", b"\x7fELF")
        archive.writestr("torchaudio-2.11.0.dist-info/METADATA", "Metadata-Version: 2.1\nVersion: 2.11.0\n")
        archive.writestr(
            "torchaudio-2.11.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-cp311-x\n"
        )
        archive.writestr("torchaudio-2.11.0.dist-info/RECORD", "torchaudio/lib/_torchaudio.so,sha256=x,4\n")
    return wheel


def test_repacking_leaves_plain_python_with_a_true_record(cuda_wheel: Path, tmp_path: Path) -> None:
    made = repack.without_libraries(cuda_wheel, tmp_path)
    assert made.name == "torchaudio-2.11.0+cpu-py3-none-any.whl"
    with zipfile.ZipFile(made) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    info = "torchaudio-2.11.0+cpu.dist-info"
    assert not [name for name in content if name.endswith(".so")]
    assert b"+cu130" not in content["torchaudio/version.py"]
    assert b"Version: 2.11.0+cpu" in content[f"{info}/METADATA"].splitlines()
    assert content[f"{info}/WHEEL"].splitlines()[1:] == [b"Root-Is-Purelib: true", b"Tag: py3-none-any"]
    rows = list(csv.reader(io.StringIO(content[f"{info}/RECORD"].decode())))
    assert {row[0] for row in rows} == set(content)
    for path, checksum, size in rows[:-1]:
        assert f"{path},{checksum},{size}" == repack.record_row(path, content[path])


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replace the building (gigabytes) by making the folder; returns the list of what was built."""
    built: list[Path] = []

    def run(self: environment.Build) -> None:
        self.prefix.mkdir(exist_ok=True)
        built.append(self.prefix)
        (self.prefix / environment.MARKER).touch()

    monkeypatch.setattr(environment.Build, "run", run)
    return built


def test_an_environment_is_built_once_for_all_who_ask_at_once(tmp_path: Path, builds: list[Path]) -> None:
    threads = [threading.Thread(target=environment.ensure, args=(tmp_path,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert builds == [environment.ensure(tmp_path)]


def test_an_interrupted_build_is_made_anew(tmp_path: Path, builds: list[Path]) -> None:
    rest = tmp_path / f"env-{environment.fingerprint()}"
    rest.mkdir()
    assert environment.ensure(tmp_path) == rest
    assert builds == [rest]


def test_another_lock_is_another_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment.fingerprint()
    other = tmp_path / "requirements-cpu.lock"
    other.write_text(environment.LOCK.read_text() + "one-more==1.0\n")
    monkeypatch.setattr(environment, "SOURCES", (other, *environment.SOURCES[1:]))
    assert environment.fingerprint() != before


def test_a_failing_step_says_what_failed_and_leaves_no_marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(environment.SetupError, match="/bin/false -m venv"):
        environment.ensure(tmp_path)
    assert not list(tmp_path.glob(f"*/{environment.MARKER}"))


def test_the_link_is_replaced_but_a_folder_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        setup.link(tmp_path / name)
    assert (tmp_path / ".venv").readlink() == tmp_path / "new"
    (tmp_path / ".venv").unlink()
    (tmp_path / ".venv").mkdir()
    with pytest.raises(environment.SetupError, match="move it away"):
        setup.link(tmp_path / "new")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like a checkout, whose command prints where it lies and what it was asked."""
    root = tmp_path / "checkout"
    (root / "shared" / "cli").mkdir(parents=True)
    (root / "celeryconfig.py").touch()
    (root / "shared" / "__init__.py").touch()
    (root / "shared" / "cli" / "__init__.py").write_text("import sys\ndef main():\n    print(__file__, sys.argv[1:])\n")
    (root / "deep" / "down").mkdir(parents=True)
    return root


def install(launcher: Path) -> None:
    """Write the launcher as the set-up does, for the running interpreter."""
    launcher.parent.mkdir(parents=True)
    launcher.write_text(f"#!{sys.executable}\n{environment.LAUNCHER.read_text()}")
    launcher.chmod(0o755)


def call(launcher: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([launcher, "status"], cwd=cwd, check=False, capture_output=True, text=True)


def test_the_command_finds_the_checkout_it_is_called_in(checkout: Path, tmp_path: Path) -> None:
    install(tmp_path / "env" / "bin" / "maeari")
    done = call(tmp_path / "env" / "bin" / "maeari", checkout / "deep" / "down")
    assert done.stdout == f"{checkout}/shared/cli/__init__.py ['status']\n", done.stderr


def test_the_command_finds_the_checkout_it_is_called_through(checkout: Path, tmp_path: Path) -> None:
    install(tmp_path / "env" / "bin" / "maeari")
    (checkout / ".venv").symlink_to(tmp_path / "env")
    done = call(checkout / ".venv" / "bin" / "maeari", tmp_path)
    assert done.stdout.startswith(f"{checkout}/shared/cli/"), done.stderr


def test_the_command_says_so_outside_any_checkout(tmp_path: Path) -> None:
    install(tmp_path / "env" / "bin" / "maeari")
    done = call(tmp_path / "env" / "bin" / "maeari", tmp_path)
    assert done.returncode == 1
    assert "is a Maeari checkout" in done.stderr


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it; returns the folder that is the PATH."""
    path = tmp_path / "path"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    return path


def test_missing_system_packages_are_named_where_they_cannot_be_installed(
    bare_machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = {package.name for package in system.install_missing()}
    assert {"espeak-ng", "ffmpeg", "redis-server"} <= missing
    assert "as root: apt-get install" in capsys.readouterr().err


def test_missing_system_packages_are_installed_by_root(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    apt = bare_machine / "apt-get"
    apt.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n'
        f'case "$*" in *install*) for name in espeak-ng ffmpeg redis-server; do\n'
        f": >{bare_machine}/$name; /bin/chmod +x {bare_machine}/$name; done ;; esac\n"
    )
    apt.chmod(0o755)
    assert "espeak-ng" not in {package.name for package in system.install_missing()}
    update, install_call = (tmp_path / "calls").read_text().splitlines()
    assert update.endswith(" update")
    assert "espeak-ng" in install_call
    assert "redis-server" in install_call
