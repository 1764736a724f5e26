"""What must run inside the engine's child processes before they serve anything: vLLM general plugins.

vLLM finds plugins by entry point, and this application is never installed. So a two-line `*.dist-info` lies in
`entry_points/`, and the host puts that folder at the end of `sys.path`: a spawned child inherits the path, and with it
the plugins, in the engine core as in its tensor-parallel workers. Nothing is written outside the checkout, and
`PYTHONPATH` stays the operator's. A plugin that is not found is silently left out by vLLM; that is why the workers
report what was applied (`PluginReport`) and the host refuses to start without it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from pathlib import Path

ENTRY_POINTS = Path(__file__).with_name("entry_points")
"""Folder that makes the plugins discoverable."""
REPORT = f"{__name__}.PluginReport"
"""Worker extension through which the host asks what was applied."""
EXPECTED = frozenset({"multiply_adapters", "gather_tokens", "give_way", "end_with_host"})
"""Names of the plugins without which the engine must not serve."""
PR_SET_PDEATHSIG = 1
NICE = 5
"""Niceness of a child that computes on the processor."""

_applied: set[str] = set()


def make_discoverable() -> None:
    """Let this process and those it spawns find the plugins."""
    if str(ENTRY_POINTS) not in sys.path:
        sys.path.append(str(ENTRY_POINTS))


def multiply_adapters() -> None:
    """Have adapters computed by `cpu_adapters` where there is no accelerator, whose own kernels are right and fast."""
    from vllm.lora.punica_wrapper import punica_cpu

    from .cpu_adapters import AdaptersOnCpu

    vars(punica_cpu)["PunicaWrapperCPU"] = AdaptersOnCpu
    _applied.add("multiply_adapters")


def gather_tokens() -> None:
    """Have a core in a process of its own send fewer and longer pieces; see `gathering`."""
    if _is_child():
        from .gathering import gather

        gather()
    _applied.add("gather_tokens")


def give_way() -> None:
    """Let those go first who bring jobs and carry replies away, where the model computes on their cores.

    They need a core for milliseconds. Kept waiting they bring the jobs of a burst one by one, and the engine spends its
    time on many small batches: 64 jobs at once on two cores took 3.5 % longer.
    """
    from vllm.platforms import current_platform

    if _is_child() and current_platform.is_cpu():
        os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
    _applied.add("give_way")


def end_with_host() -> None:
    """Tie a child of the engine to the process that started it.

    Killed with -9, a host cannot end its children, and an orphaned engine core would hold its memory (on a GPU: the
    card) for ever. The kernel sends the signal when the *thread* that spawned the child ends, so that thread must live
    as long as the host. Signals to the host's process group (Ctrl-C, a supervisor's stop) must not end the engine under
    a host that still drains: the child leaves the group.
    """
    host = multiprocessing.parent_process()
    if host is None or not _is_child():
        return
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != host.pid:  # the host died before the kernel was told
        os._exit(1)
    os.setpgid(0, 0)
    _applied.add("end_with_host")


def _is_child() -> bool:
    """Whether this is a process of the engine, not the one that asks it."""
    return multiprocessing.current_process().name.startswith(("EngineCore", "VllmWorker"))


class PluginReport:
    """Mixed into vLLM's worker class, whose methods the host can call."""

    def maeari_plugins(self) -> list[str]:
        """Names of the plugins that were applied in this process."""
        return sorted(_applied)
