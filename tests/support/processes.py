"""Processes, which may end while one looks at them."""

from __future__ import annotations

import psutil


def lives(process: psutil.Process) -> bool:
    """It has not ended, reaped or not."""
    try:
        return process.is_running() and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def command(process: psutil.Process) -> str:
    """Its command line; nothing of one that has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
