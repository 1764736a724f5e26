"""The prompts of the generation section, the same for every contender, and the engine's arguments, the same for every engine."""

from __future__ import annotations

from typing import Any

from shared.contracts.llm import GenerateRequest, Message
from shared.settings import settings


def adapters() -> list[str]:
    """Names of the adapters that are mixed."""
    return sorted(path.name for path in settings().adapters_path.iterdir() if path.is_dir())


def requests(count: int) -> list[GenerateRequest]:
    """`count` jobs: base model and adapters in turn; how long a reply is, each batch says."""
    mixed = [None, *adapters()]
    return [
        GenerateRequest(
            messages=(Message(role="user", content=f"{number}번째 질문이야. 좋아하는 게 뭐야?"),),
            adapter=mixed[number % len(mixed)],
        )
        for number in range(count)
    ]


def prepared() -> tuple[dict[str, Any], str]:
    """The engine's arguments as the cluster gives them, and the model; this process is ready to import vLLM then."""
    from workers.engines import generator_setup

    model = settings().model(settings().llm_model)
    generator_setup.prepare_environment(settings(), model)
    from transformers import AutoConfig

    return generator_setup.engine_arguments(settings(), model, AutoConfig.from_pretrained(model)), model


def prompts(count: int) -> list[dict[str, Any]]:
    """The jobs as text, with the chat template applied, as those take them who know no chat."""
    from transformers import AutoTokenizer

    template = AutoTokenizer.from_pretrained(settings().model(settings().llm_model))
    return [
        {
            "prompt": template.apply_chat_template(
                [message.model_dump(include={"role", "content"}) for message in request.messages],
                add_generation_prompt=True,
                tokenize=False,
            ),
            "adapter": request.adapter,
        }
        for request in requests(count)
    ]


def handles() -> dict[str | None, Any]:
    """vLLM's names of the adapters."""
    from vllm.lora.request import LoRARequest

    folder = settings().adapters_path
    named = {name: LoRARequest(name, place, str(folder / name)) for place, name in enumerate(adapters(), 1)}
    return {None: None, **named}


def sampling(tokens: int, *, streamed: bool) -> Any:
    """For a reply of `tokens`, neither more nor less."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    kind = RequestOutputKind.DELTA if streamed else RequestOutputKind.FINAL_ONLY
    return SamplingParams(temperature=0.0, max_tokens=tokens, min_tokens=tokens, output_kind=kind)


class Engine:
    """AsyncLLM with the adapters loaded; for the raw figure, LitServe and Ray Serve alike."""

    def __init__(self) -> None:
        """Load; takes half a minute."""
        arguments, _ = prepared()
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self.llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
        self.adapters = handles()
        self._number = 0

    async def generate(self, job: dict[str, Any], *, streamed: bool) -> Any:
        """Pieces of text with the tokens in each; a single one unless `streamed`."""
        self._number += 1
        params = sampling(job["tokens"], streamed=streamed)
        adapter = self.adapters[job["adapter"]]
        async for output in self.llm.generate(job["prompt"], params, str(self._number), lora_request=adapter):
            yield output.outputs[0].text, len(output.outputs[0].token_ids)
