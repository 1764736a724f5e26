"""`python -m workers <role>`: one worker process. SIGTERM drains it."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_ROLES = ("conductor", "llm", "stt", "tts", "rag", "trainer")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workers", description="Run one worker of the Maeari cluster.")
    parser.add_argument("role", choices=_ROLES)
    parser.add_argument("--name", help="unique name, default <role>@<host>-<pid>")
    return parser.parse_args()


def _environment() -> None:
    """What numeric libraries read at their import. One thread each: on small machines they fight for the cores."""
    if not os.environ.get("CUDA_VISIBLE_DEVICES"):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ["CELERY_CUSTOM_WORKER_POOL"] = "workers.pool:LinePool"  # where Celery looks for `--pool custom`


def main() -> None:
    """Parse, prepare the process, run."""
    arguments = _arguments()
    _environment()
    # `tasks`, `shared` and `workers` are common names: make sure that ours are meant.
    sys.path.insert(0, str(ROOT))
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    import tasks

    from . import lifecycle, roles

    # Celery warns a root user of pickled messages; this cluster reads JSON alone.
    warnings.filterwarnings("ignore", message="(?s).*superuser privileges")

    assert Path(tasks.__file__ or "").is_relative_to(ROOT), f"another package named tasks was found: {tasks.__file__}"
    name = arguments.name or f"{arguments.role}@{socket.gethostname()}-{os.getpid()}"
    lifecycle.run(roles.roles()[arguments.role], name)


if __name__ == "__main__":
    main()
