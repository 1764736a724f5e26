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
from typing import Any

ENTRY_POINTS = Path(__file__).with_name("entry_points")
"""Folder that makes the plugins discoverable."""
REPORT = f"{__name__}.PluginReport"
"""Worker extension through which the host asks what was applied."""
EXPECTED = frozenset({"mask_base_rows", "end_with_host"})
"""Names of the plugins without which the engine must not serve."""
PR_SET_PDEATHSIG = 1

_applied: set[str] = set()


def make_discoverable() -> None:
    """Let this process and those it spawns find the plugins."""
    if str(ENTRY_POINTS) not in sys.path:
        sys.path.append(str(ENTRY_POINTS))


def mask_base_rows() -> None:
    """Keep adapters out of the rows that asked for none.

    On a CPU, vLLM looks up a row's adapter by its slot; a row without one has slot -1, which Python reads as the last
    slot. As soon as that one is filled, base requests in a mixed batch are answered with its weights. What such a row
    takes from an adapter is set to zero here. On a GPU other kernels run, which know about -1.
    """
    from vllm.lora.ops import torch_ops
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    if "mask_base_rows" in _applied:
        return
    shrink = lora_ops.bgmv_shrink

    def masked(inputs: Any, weights: Any, output: Any, slots: Any, scaling: float = 1.0) -> None:
        shrink(inputs, weights, output, slots, scaling)
        output.masked_fill_((slots < 0).unsqueeze(1), 0)

    for module in (lora_ops, torch_ops, punica_cpu):
        vars(module)["bgmv_shrink"] = masked
    _applied.add("mask_base_rows")


def end_with_host() -> None:
    """Tie a child of the engine to the process that started it.

    Killed with -9, a host cannot end its children, and an orphaned engine core would hold its memory (on a GPU: the
    card) for ever. The kernel sends the signal when the *thread* that spawned the child ends, so that thread must live
    as long as the host. Signals to the host's process group (Ctrl-C, a supervisor's stop) must not end the engine under
    a host that still drains: the child leaves the group.
    """
    host = multiprocessing.parent_process()
    if host is None or not multiprocessing.current_process().name.startswith(("EngineCore", "VllmWorker")):
        return
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != host.pid:  # the host died before the kernel was told
        os._exit(1)
    os.setpgid(0, 0)
    _applied.add("end_with_host")


class PluginReport:
    """Mixed into vLLM's worker class, whose methods the host can call."""

    def maeari_plugins(self) -> list[str]:
        """Names of the plugins that were applied in this process."""
        return sorted(_applied)
