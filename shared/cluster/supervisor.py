"""The supervisor: its configuration file and its remote interface over a Unix socket."""

from __future__ import annotations

import http.client
import shlex
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from shared.errors import ConfigurationInvalid
from shared.settings import ROOT, Settings

from . import child
from .environment import child_environment
from .layout import Layout
from .plan import Program

KILL_AFTER_DRAIN_S = 10
"""Seconds on top of a worker's drain before it is killed."""

SERVICE_STOP_S = 15
"""Seconds that a service has to stop; Redis writes its last append before it goes."""

_ALREADY_STARTED, _NOT_RUNNING, _STILL_RUNNING = 60, 70, 91
"""Faults of the supervisor's remote interface."""

_START_S = 15.0
"""Seconds that the supervisor has to answer after its start."""


def render(programs: Iterable[Program], config: Settings, layout: Layout) -> str:
    """The configuration file. Nothing starts by itself: `up` starts in order."""
    head = [
        "[supervisord]",
        f"pidfile={_plain(layout.supervisor_pid)}",
        f"logfile={_plain(layout.log('supervisord'))}",
        "logfile_maxbytes=5MB",
        "logfile_backups=1",
        f"directory={_plain(ROOT)}",
        f"childlogdir={_plain(layout.logs)}",
        "umask=077",
        "minfds=1024",
        "identifier=maeari",
        "",
        "[unix_http_server]",
        f"file={_plain(layout.socket)}",
        "chmod=0700",
        "",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        "",
    ]
    return "\n".join(head + [line for program in programs for line in _section(program, config, layout)])


def _section(program: Program, config: Settings, layout: Layout) -> list[str]:
    grace = round(config.drain_s) + KILL_AFTER_DRAIN_S if program.is_worker else SERVICE_STOP_S
    variables = ",".join(f'{name}="{_plain(value)}"' for name, value in program.environment.items())
    return [
        f"[program:{program.name}]",
        "command=" + _plain(shlex.join(_bound(program))),
        f"directory={_plain(ROOT)}",
        f"environment={variables}",
        "autostart=false",
        "autorestart=true",
        "startsecs=1",
        "startretries=3",
        "stopsignal=TERM",
        f"stopwaitsecs={grace}",
        "killasgroup=true",
        "redirect_stderr=true",
        f"stdout_logfile={_plain(layout.log(program.name))}",
        "stdout_logfile_maxbytes=10MB",
        "stdout_logfile_backups=2",
        "",
    ]


def _bound(program: Program) -> tuple[str, ...]:
    """The command, tied to the supervisor's life: services stop in order, workers at once (their leases run out)."""
    last = signal.SIGKILL if program.is_worker else signal.SIGTERM
    return (sys.executable, "-I", "-S", str(Path(child.__file__)), str(int(last)), *program.command)


def _plain(value: object) -> str:
    """A value as the file takes it: `%` doubled; a `;` behind a blank would begin a comment."""
    text = str(value)
    if "\n" in text or " ;" in text:
        raise ConfigurationInvalid(f"{text!r} cannot stand in the supervisor's configuration.")
    return text.replace("%", "%%")


@dataclass(frozen=True)
class Process:
    """What the supervisor knows of a program."""

    name: str
    state: str
    """RUNNING, STARTING, BACKOFF, STOPPING, EXITED, FATAL, STOPPED."""
    pid: int
    started_at: float
    """Seconds since the epoch."""
    exit_status: int
    why: str
    """What went wrong with the last start."""

    @property
    def alive(self) -> bool:
        """It runs or is about to."""
        return self.state in ("RUNNING", "STARTING", "BACKOFF")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self.timeout)
        try:
            connection.connect(str(self._path))
        except OSError:
            connection.close()
            raise
        self.sock = connection


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _Connection(self._path)
        self._connection = (host, connection)  # what the base class closes
        return connection


class Supervisor:
    """The supervisor of one cluster. A method raises `OSError` when it does not run, except where it says otherwise."""

    def __init__(self, layout: Layout) -> None:
        """`layout`: of the cluster."""
        self.layout = layout

    def _call(self, method: str, *arguments: object) -> Any:
        with xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(self.layout.socket)) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)

    def running(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self._call("getState")["statename"] == "RUNNING")
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return False

    def launch(self, config: Settings) -> None:
        """Start it in the background with the written configuration."""
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.layout.supervisor_conf)]
        ran = subprocess.run(
            command, cwd=ROOT, env=child_environment(config), capture_output=True, text=True, timeout=60, check=False
        )
        deadline = time.monotonic() + _START_S
        while ran.returncode == 0 and not self.running():
            if time.monotonic() > deadline:
                raise ConfigurationInvalid(f"The supervisor does not answer; see {self.layout.log('supervisord')}.")
            time.sleep(0.05)
        if ran.returncode:
            raise ConfigurationInvalid(f"The supervisor does not start: {(ran.stderr or ran.stdout).strip()[-500:]}")

    def processes(self) -> dict[str, Process]:
        """Every program by name; empty when the supervisor does not run."""
        try:
            infos = self._call("getAllProcessInfo")
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return {}
        return {info["name"]: _process(info) for info in infos}

    def reload(self) -> None:
        """Take in the written configuration: new programs are added, changed and vanished ones drain and go first."""
        added, changed, removed = self._call("reloadConfig")[0]
        leaving = [*changed, *removed]
        for name in leaving:
            self._call("stopProcessGroup", name, False)
        for name in leaving:
            while not self._removed(name):
                time.sleep(0.1)
        for name in (*added, *changed):
            self._call("addProcessGroup", name)

    def _removed(self, name: str) -> bool:
        try:
            self._call("removeProcessGroup", name)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != _STILL_RUNNING:
                raise
            return False
        return True

    def start(self, name: str) -> None:
        """Begin to start a program; nothing when it runs already."""
        self._tolerant("startProcess", name)

    def stop(self, name: str) -> None:
        """Begin to stop a program; nothing when it has stopped."""
        self._tolerant("stopProcess", name)

    def _tolerant(self, method: str, name: str) -> None:
        try:
            self._call(method, name, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode not in (_ALREADY_STARTED, _NOT_RUNNING):
                raise

    def shutdown(self) -> None:
        """End it and whatever still runs under it; returns when its process is gone."""
        pid = int(self._call("getPID"))
        self._call("shutdown")
        while _exists(pid):
            time.sleep(0.05)


def _exists(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _process(info: dict[str, Any]) -> Process:
    return Process(
        str(info["name"]),
        str(info["statename"]),
        int(info["pid"]),
        float(info["start"]),
        int(info["exitstatus"]),
        str(info["spawnerr"]),
    )
