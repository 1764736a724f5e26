"""The raw engine for `generation`: `LLM.generate` with the cluster's own engine arguments, one batch per line read."""

from __future__ import annotations

import json
import sys
import time

from shared.settings import settings
from workers.engines import generator_setup

from .generation import TOKENS, requests


def main() -> None:
    """Load, then answer."""
    model = settings().model(settings().llm_model)
    generator_setup.prepare_environment(settings(), model)
    from transformers import AutoConfig, AutoTokenizer
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    from workers.engines.chat import ChatEncoder

    llm = LLM(**generator_setup.engine_arguments(settings(), model, AutoConfig.from_pretrained(model)))
    encoder = ChatEncoder(AutoTokenizer.from_pretrained(model))
    batch = requests()
    names = sorted({request.adapter for request in batch if request.adapter})
    adapters = {
        name: LoRARequest(name, place, str(settings().adapters_path / name)) for place, name in enumerate(names, 1)
    }
    prompts = [{"prompt_token_ids": encoder.encode(request.messages, "")} for request in batch]
    loras = [adapters.get(request.adapter or "") for request in batch]
    sampling = SamplingParams(temperature=0.0, max_tokens=TOKENS, min_tokens=TOKENS)
    for _ in sys.stdin:
        began = time.perf_counter()
        outputs = llm.generate(prompts, sampling, lora_request=loras, use_tqdm=False)
        seconds = time.perf_counter() - began
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        sys.stdout.write(json.dumps({"tokens": tokens, "seconds": seconds}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
