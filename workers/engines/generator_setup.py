"""How vLLM is told what to be: its environment before the import, its arguments after."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from shared.settings import Settings

from . import generator_plugins

GIB = 2**30


def on_cpu() -> bool:
    """Whether this process sees no accelerator."""
    import torch

    return not torch.cuda.is_available()


WITH_HOST = Path(__file__).with_name("with_host.sh")
"""Starts Python so that it ends with the process that starts it."""


def prepare_environment(config: Settings, model: str) -> None:
    """Set the variables that vLLM reads; must come before its first import in this process.

    What would break the engine is forced; what only tunes it leaves an operator's own value alone.
    """
    generator_plugins.make_discoverable()
    verbose = config.log_level in {"DEBUG", "INFO"}
    forced = {
        # A host with threads must not be forked.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    }
    tuned = {
        # At WARNING it tells, on every start, what this very configuration chose on purpose.
        "VLLM_LOGGING_LEVEL": config.log_level if verbose else "ERROR",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if Path(model).is_dir():
        tuned["HF_HUB_OFFLINE"] = "1"
    if on_cpu():
        # The model then runs in the engine core itself; otherwise a third process would hold it.
        forced["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        # Unset, every process computes on all cores at once, and throughput falls to a third.
        tuned["OMP_NUM_THREADS"] = "1"
        tuned["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    if shutil.which("setpriv"):
        # Plugins come after the core has greeted its host; for a host that died before, it would wait five minutes.
        forced["MAEARI_CHILD_PYTHON"] = sys.executable
        multiprocessing.set_executable(str(WITH_HOST))
    os.environ.update(forced)
    for name, value in tuned.items():
        os.environ.setdefault(name, value)


def engine_arguments(config: Settings, model: str, model_config: Any) -> dict[str, Any]:
    """Arguments of `AsyncEngineArgs`; `model_config` is the model's Hugging Face configuration."""
    arguments: dict[str, Any] = {
        "model": model,
        "served_model_name": [Path(config.llm_model).name],
        "dtype": config.llm_dtype,
        "quantization": config.llm_quantization,
        "max_model_len": config.llm_max_model_len,
        "max_num_seqs": config.llm_max_num_seqs,
        "enable_lora": True,
        "max_loras": config.llm_max_loras,
        "max_cpu_loras": held_adapters(config),
        "max_lora_rank": config.llm_max_lora_rank,
        "disable_log_stats": True,
        "shutdown_timeout": int(config.drain_s),
        "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
        "worker_extension_cls": generator_plugins.REPORT,
    }
    if on_cpu():
        arguments |= {"enforce_eager": True, "block_size": 32}
        arguments["kv_cache_memory_bytes"] = _kv_cache_bytes(config, model_config)
    else:
        arguments["gpu_memory_utilization"] = config.llm_gpu_memory
    return arguments


def held_adapters(config: Settings) -> int:
    """Adapters that the engine keeps in memory, in a batch or waiting for one."""
    return 4 * config.llm_max_loras


def _kv_cache_bytes(config: Settings, model_config: Any) -> int:
    """As much as a full house of longest sequences needs, at most what the settings allow: it is resident at once."""
    heads = getattr(model_config, "num_key_value_heads", None) or model_config.num_attention_heads
    width = getattr(model_config, "head_dim", None) or model_config.hidden_size // model_config.num_attention_heads
    item = 2 if config.llm_dtype in {"bfloat16", "float16", "half"} else 4
    token: int = 2 * model_config.num_hidden_layers * heads * width * item
    return min(config.llm_kv_cache_gib * GIB, token * config.llm_max_model_len * config.llm_max_num_seqs)
