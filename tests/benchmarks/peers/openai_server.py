"""vLLM's own OpenAI server with the cluster's engine arguments. `python -m ... PORT`."""

from __future__ import annotations

import json
import runpy
import sys
from typing import Any

from shared.settings import settings

from . import workload


def flags(arguments: dict[str, Any]) -> list[str]:
    """Arguments of `AsyncEngineArgs` as a command line."""
    found: list[str] = []
    for name, value in arguments.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            found.append(flag)
        elif isinstance(value, list):
            found += [flag, *value]
        elif value not in (None, False):
            found += [flag, json.dumps(value) if isinstance(value, dict) else str(value)]
    return found


if __name__ == "__main__":
    engine, _ = workload.prepared()
    engine["served_model_name"] = ["language"]
    folder = settings().adapters_path
    loras = [f"{name}={folder / name}" for name in workload.adapters()]
    sys.argv = ["api_server", "--host", "127.0.0.1", "--port", sys.argv[1], *flags(engine), "--lora-modules", *loras]
    sys.argv += ["--disable-uvicorn-access-log"]
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")
