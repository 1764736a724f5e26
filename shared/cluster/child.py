"""Become another program, one that does not outlive the supervisor: `child.py SIGNAL PROGRAM ARGUMENT...`.

A supervisor that is killed can end nobody; without this its workers would go on, unseen, beside those of the next one.
The kernel sends SIGNAL when the parent is gone (Linux; elsewhere nothing happens). Imports the standard library alone.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask for the signal, then become the program; its process id stays."""
    number, command = int(sys.argv[1]), sys.argv[2:]
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the supervisor has gone already")
    os.execvp(command[0], command)  # noqa: S606  a list of fixed words, no shell needed


if __name__ == "__main__":
    main()
