"""The real engine on a tiny model with random weights: what it says is nonsense, and exactly known."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from shared.contracts.llm import GenerateRequest, Generation, Message, Sampling
from shared.errors import (
    AttemptTimeout,
    ConfigurationInvalid,
    InvalidAdapter,
    InvalidRequest,
    InvalidSchema,
    JobCancelled,
    UnknownAdapter,
    UnknownModel,
    UnsatisfiedSchema,
)
from tests.integration.models import edit_adapter, make_adapter, make_language_model
from tests.support.generation import ENDLESS, GREEDY, ask, cores_of
from tests.support.training import Workshop
from tests.support.waiting import until
from workers.engines import generator_plugins
from workers.engines.gathering import PIECE
from workers.engines.generator import BatchingGenerator

SENTENCE = "안녕! 오늘 별빛 아래에서 만난 꽃은 정말 예뻤어, 그렇지?"
pytestmark = [
    pytest.mark.timeout(900),
    # What the engine's own libraries deprecate among themselves.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def folder(studio: Workshop) -> Path:
    """A model with two good adapters."""
    return studio.folder / "models"


@pytest.fixture(autouse=True)
def lives_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test the shared engine answers and runs nothing."""
    yield
    if "generator" in request.fixturenames:
        engine: BatchingGenerator = request.getfixturevalue("generator")
        until(lambda: engine.running == 0, "nothing runs")
        assert not engine.dead.is_set()
        assert ask(engine, sampling=Sampling(temperature=0.0, max_tokens=2)).usage.completion_tokens > 0


@pytest.fixture
def tokens(generator: BatchingGenerator, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[int, ...], list[int]]:
    """Prompt tokens to the tokens that the engine answered."""
    engine = generator._engine
    plain = engine.generate
    seen: dict[tuple[int, ...], list[int]] = {}

    async def spy(prompt: Any, params: Any, run_id: str, *, lora_request: Any) -> AsyncIterator[Any]:
        said = seen.setdefault((lora_request.lora_int_id if lora_request else 0, *prompt["prompt_token_ids"]), [])
        async for output in plain(prompt, params, run_id, lora_request=lora_request):
            said.extend(output.outputs[0].token_ids)
            yield output

    monkeypatch.setattr(engine, "generate", spy)
    return seen


Reference = Callable[[list[int], str | None, int], list[int]]


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    """The reply of transformers and peft, token by token."""
    torch.set_num_threads(1)
    model = LlamaForCausalLM.from_pretrained(folder / "tiny", dtype=torch.float32).eval()
    tuned = PeftModel.from_pretrained(model, str(folder / "adapters" / "one"), adapter_name="one")
    tuned.load_adapter(str(folder / "adapters" / "two"), adapter_name="two")
    tuned.eval()

    def reply(prompt: list[int], adapter: str | None, count: int) -> list[int]:
        tuned.set_adapter(adapter or "one")
        ids = torch.tensor([prompt])
        plainly = contextlib.nullcontext() if adapter else tuned.disable_adapter()
        with torch.no_grad(), plainly:
            said = tuned.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count
            )
        return [int(token) for token in said[0, len(prompt) :]]

    return reply


def together(calls: list[Callable[[], Generation]]) -> list[Generation]:
    """All calls at once, each on a thread of its own."""
    gate = threading.Barrier(len(calls))

    def call(one: Callable[[], Generation]) -> Generation:
        gate.wait()
        return one()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def test_a_batch_mixing_base_and_adapters_equals_the_reference(
    generator: BatchingGenerator, tokens: dict[tuple[int, ...], list[int]], reference: Reference
) -> None:
    jobs = [(f"질문 {number}번입니다", adapter) for number in range(4) for adapter in (None, "one", "two")]
    together([lambda text=text, adapter=adapter: ask(generator, text, adapter=adapter) for text, adapter in jobs])
    for text, adapter in jobs:
        prompt = generator._chat.encode([Message(role="user", content=text)])
        number = generator._library.find(adapter).number if adapter else 0
        assert tokens[number, *prompt] == reference(prompt, adapter, 32), (text, adapter)


def test_a_reply_goes_on_behind_its_prefix(
    generator: BatchingGenerator, tokens: dict[tuple[int, ...], list[int]], reference: Reference
) -> None:
    ask(generator, prefix="오늘 하루는 ")
    prompt = generator._chat.encode([Message(role="user", content="안녕하세요")], "오늘 하루는 ")
    assert tokens[0, *prompt] == reference(prompt, None, 32)
    assert prompt != generator._chat.encode([Message(role="user", content="안녕하세요")])


def test_more_adapters_than_the_engine_holds(generator: BatchingGenerator, folder: Path) -> None:
    expected = {kind: ask(generator, adapter=kind).text for kind in ("one", "two")}
    assert expected["one"] != expected["two"]
    names = [f"copy-{number}" for number in range(11)]
    for number, name in enumerate(names):
        shutil.copytree(folder / "adapters" / ("one", "two")[number % 2], folder / "adapters" / name)
    replies = together([lambda name=name: ask(generator, adapter=name) for name in names * 2])
    for number, reply in enumerate(replies):
        assert reply.text == expected[("one", "two")[number % 11 % 2]]
        assert reply.adapter == names[number % 11]


def test_a_changed_adapter_is_taken_up_at_once(generator: BatchingGenerator, folder: Path) -> None:
    changing = folder / "adapters" / "changing"
    shutil.copytree(folder / "adapters" / "one", changing)
    before = ask(generator, adapter="changing").text
    shutil.copytree(folder / "adapters" / "two", changing, dirs_exist_ok=True)
    assert before == ask(generator, adapter="one").text
    assert ask(generator, adapter="changing").text == ask(generator, adapter="two").text != before


def _wrong_rank(folder: Path) -> None:
    make_adapter(folder.parents[1] / "tiny", folder, rank=16)


def _lying_rank(folder: Path) -> None:
    edit_adapter(make_adapter(folder.parents[1] / "tiny", folder, rank=4), r=8)


def _other_base(folder: Path) -> None:
    make_adapter(make_language_model(folder.parents[1] / "other", hidden=32), folder)


def _wider_base(folder: Path) -> None:
    make_adapter(make_language_model(folder.parents[1] / "wider", hidden=128), folder)


def _refused_by_the_engine(folder: Path) -> None:
    edit_adapter(make_adapter(folder.parents[1] / "tiny", folder), init_lora_weights="pissa")


def _gone(folder: Path) -> None:
    make_adapter(folder.parents[1] / "tiny", folder)
    (folder / "adapter_model.safetensors").unlink()


def _cut_off(folder: Path) -> None:
    weights = make_adapter(folder.parents[1] / "tiny", folder) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def _not_numbers(folder: Path) -> None:
    weights = make_adapter(folder.parents[1] / "tiny", folder) / "adapter_model.safetensors"
    save_file({name: value * float("nan") for name, value in load_file(weights).items()}, weights)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_not_numbers, "not finite"),
        (_wrong_rank, "its rank 16 is over the limit of 8"),
        (_lying_rank, "the configuration says 8"),
        (_other_base, "another base model"),
        (_wider_base, "another base model"),
        (_refused_by_the_engine, "the engine refuses it"),
        (_gone, "it has no adapter_model.safetensors"),
        (_cut_off, "is cut off"),
    ],
)
def test_a_bad_adapter_fails_its_own_job_alone(
    generator: BatchingGenerator, folder: Path, spoil: Callable[[Path], None], words: str
) -> None:
    name = spoil.__name__.strip("_")
    spoil(folder / "adapters" / name)
    with pytest.raises(InvalidAdapter, match=words) as caught:
        ask(generator, adapter=name)
    assert caught.value.field == "adapter"
    assert ask(generator, adapter="one").adapter == "one"


def test_unknown_names(generator: BatchingGenerator) -> None:
    with pytest.raises(UnknownAdapter):
        ask(generator, adapter="nobody")
    with pytest.raises(UnknownModel):
        ask(generator, model="other")
    assert ask(generator, model="tiny").engine.model == "tiny"


def test_streamed_korean_never_breaks_a_character(generator: BatchingGenerator) -> None:
    pieces: list[str] = []
    reply = ask(
        generator,
        json_schema={"const": SENTENCE},
        sampling=Sampling(temperature=1.0, max_tokens=200),
        on_text=pieces.append,
    )
    assert json.loads(reply.text) == SENTENCE
    assert "".join(pieces) == reply.text
    assert len(pieces) > 10
    assert "\ufffd" not in reply.text


def test_tokens_that_nobody_reads_along_come_in_pieces(
    generator: BatchingGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    processor = generator._engine.output_processor
    process = processor.process_outputs

    def spy(outputs: Any, *args: Any, **options: Any) -> Any:
        sizes.extend(len(output.new_token_ids) for output in outputs)
        return process(outputs, *args, **options)

    monkeypatch.setattr(processor, "process_outputs", spy)
    sampling = Sampling(temperature=0.0, max_tokens=3 * PIECE, min_tokens=3 * PIECE)
    whole = ask(generator, sampling=sampling).text
    assert sizes == [1, PIECE, PIECE, PIECE - 1]
    sizes.clear()
    pieces: list[str] = []
    assert ask(generator, sampling=sampling, on_text=pieces.append).text == "".join(pieces) == whole
    assert sizes == [1] * (3 * PIECE)


def test_a_broken_character_at_the_end_does_not_give_the_prompt_away(generator: BatchingGenerator) -> None:
    system = Message(role="system", content="비밀 규칙")
    request = GenerateRequest(
        messages=(system, Message(role="user", content="뭐야 \ufffd")), sampling=Sampling(temperature=0.0, max_tokens=8)
    )
    texts: list[str] = []
    text = generator.generate(
        request, request_id="broken", stop=threading.Event(), timeout_s=60, on_text=texts.append
    ).text
    assert "뭐야" not in text and "비밀" not in text
    assert "".join(texts) == text


def test_a_stop_string_ends_the_text_before_it(generator: BatchingGenerator) -> None:
    whole = ask(generator).text
    stop = next(whole[at : at + 3] for at in range(10, len(whole)) if whole[at : at + 3].strip() == whole[at : at + 3])
    pieces: list[str] = []
    reply = ask(generator, sampling=GREEDY.model_copy(update={"stop": ("없는 말", stop)}), on_text=pieces.append)
    assert reply.text == "".join(pieces) == whole[: whole.index(stop)]
    assert reply.finish_reason == "stop"


def test_a_seed_decides(generator: BatchingGenerator) -> None:
    def say(seed: int) -> str:
        return ask(generator, sampling=Sampling(temperature=1.0, top_k=50, max_tokens=24, seed=seed)).text

    assert say(7) == say(7) != say(8)


def test_max_tokens_and_usage(generator: BatchingGenerator) -> None:
    reply = ask(generator, sampling=Sampling(temperature=0.0, max_tokens=5, min_tokens=5))
    assert reply.finish_reason == "length"
    assert reply.usage.completion_tokens == 5
    assert reply.usage.prompt_tokens == len(generator._chat.encode([Message(role="user", content="안녕하세요")]))
    assert 0 < reply.ttft_ms <= reply.engine_ms


def test_a_schema_binds_the_text(generator: BatchingGenerator) -> None:
    schema = {
        "type": "object",
        "properties": {"mood": {"enum": ["기쁨", "슬픔"]}, "sure": {"type": "boolean"}},
        "required": ["mood", "sure"],
        "additionalProperties": False,
    }
    value = json.loads(ask(generator, json_schema=schema, sampling=Sampling(max_tokens=100)).text)
    assert value["mood"] in {"기쁨", "슬픔"}
    assert isinstance(value["sure"], bool)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"type": "string", "pattern": "("},
        {"type": "array", "maxItems": 10**8},
        {"type": "integer", "minimum": 5, "maximum": 3},
        {"$ref": "#"},
    ],
    ids=str,
)
def test_a_schema_that_cannot_be_followed(generator: BatchingGenerator, schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidSchema) as caught:
        ask(generator, json_schema=schema)
    assert caught.value.field == "json_schema"


def test_a_schema_that_does_not_fit_the_limit(generator: BatchingGenerator) -> None:
    with pytest.raises(UnsatisfiedSchema):
        ask(generator, json_schema={"type": "string", "minLength": 200})


def test_a_long_conversation_gets_what_room_is_left(generator: BatchingGenerator) -> None:
    limit = 1024
    used = ask(generator, "가 " * 300, sampling=Sampling(temperature=0.0, max_tokens=1)).usage.prompt_tokens
    each = (used - ask(generator, "가 " * 200, sampling=Sampling(max_tokens=1)).usage.prompt_tokens) / 100
    almost = "가 " * (300 + int((limit - used - 40) / each))
    reply = ask(generator, almost, sampling=Sampling(max_tokens=500, min_tokens=400))
    assert reply.usage.prompt_tokens + reply.usage.completion_tokens == limit
    with pytest.raises(InvalidRequest, match=str(limit)) as caught:
        ask(generator, "가 " * 2000)
    assert caught.value.field == "messages"


def test_a_cancelled_job_leaves_nothing_running(generator: BatchingGenerator) -> None:
    (core,) = cores_of(os.getpid())
    stop = threading.Event()
    ended: list[bool] = []

    def run() -> None:
        with pytest.raises(JobCancelled):
            ask(generator, sampling=ENDLESS, stop=stop, on_text=lambda _: begun.set())
        ended.append(True)

    begun = threading.Event()
    jobs = [threading.Thread(target=run) for _ in range(8)]
    for job in jobs:
        job.start()
    assert begun.wait(300)
    stop.set()
    for job in jobs:
        job.join(300)
    assert len(ended) == 8
    until(lambda: generator._engine.get_num_unfinished_requests() == 0, "the engine knows none of them")
    until(lambda: core.cpu_percent(0.2) < 30, "the engine core idles")


def test_a_job_that_takes_too_long(generator: BatchingGenerator) -> None:
    with pytest.raises(AttemptTimeout):
        ask(generator, sampling=ENDLESS, timeout_s=0.3)
    with pytest.raises(JobCancelled):
        ask(generator, stop=_set_event())


def test_a_failing_listener_ends_its_job(generator: BatchingGenerator) -> None:
    def fail(_: str) -> None:
        raise LookupError("the listener is gone")

    with pytest.raises(LookupError):
        ask(generator, sampling=ENDLESS, on_text=fail)


def test_a_full_house(generator: BatchingGenerator) -> None:
    alone = [ask(generator, f"손님 {number}").text for number in range(4)]
    (core,) = cores_of(os.getpid())
    with ThreadPoolExecutor(64) as pool:
        core.suspend()
        try:
            asked = [pool.submit(ask, generator, f"손님 {number % 4}") for number in range(64)]
            until(lambda: generator.running == 64, "all are there")
        finally:
            core.resume()
        assert [reply.result().text for reply in asked] == alone * 16


def test_a_missing_plugin_stops_the_start(generator: BatchingGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator_plugins, "EXPECTED", generator_plugins.EXPECTED | {"another"})
    with pytest.raises(ConfigurationInvalid, match="another"):
        generator.warm_up()


def test_the_core_gives_way_to_those_who_bring_jobs(generator: BatchingGenerator) -> None:
    (core,) = cores_of(os.getpid())
    assert core.nice() == generator_plugins.NICE


def _set_event() -> threading.Event:
    event = threading.Event()
    event.set()
    return event
