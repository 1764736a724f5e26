"""The real engine serves what is promoted, from the next request on, and finishes what runs on what it began with."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.llm import GenerateRequest, Generation, Message, Sampling
from shared.errors import InvalidAdapter
from shared.settings import ROOT
from shared.versions import Evaluation, Registry, fingerprint, now
from tests.support.training import Workshop, whole_environment
from tests.support.waiting import until
from workers.engines.generator import BatchingGenerator

GREEDY = Sampling(temperature=0.0, max_tokens=24)
LONG = Sampling(temperature=0.0, max_tokens=400, min_tokens=400)
pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def workshop(studio: Workshop) -> Workshop:
    """A base, two shipped adapters, and two versions of a third with the very same weights."""
    models = studio.folder / "models"
    registry = Registry(studio.versions, models / "adapters")
    for name in ("one", "two"):
        registry.register("singer", models / "adapters" / name, about(fingerprint(models / "tiny")))
    return studio


def about(base_fingerprint: str) -> dict[str, Any]:
    figures = {"style_kept": 1.0}
    return {
        "pack": "artist", "recipe_name": "adapter-singer", "recipe": {}, "recipe_hash": "", "data_hash": "", "base_model": "tiny",
        "base_fingerprint": base_fingerprint, "figures": {}, "at_least": {"style_kept": 0.5}, "at_most": {},
        "evaluation": Evaluation(at=now(), source="training", figures=figures),
    }  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_promoted(workshop: Workshop) -> None:
    (workshop.versions / "singer" / "serving.json").unlink(missing_ok=True)


def ask(generator: BatchingGenerator, adapter: str, sampling: Sampling = GREEDY, on_text: Any = None) -> Generation:
    request = GenerateRequest(
        messages=(Message(role="user", content="안녕하세요"),), adapter=adapter, sampling=sampling
    )
    return generator.generate(request, request_id="test", stop=threading.Event(), timeout_s=600, on_text=on_text)


def maeari(workshop: Workshop, *words: str) -> subprocess.CompletedProcess[str]:
    """The command that people type."""
    command = [sys.executable, "-m", "shared.cli", "adapter", *words]
    return subprocess.run(
        command, cwd=ROOT, env=whole_environment(workshop), capture_output=True, text=True, check=True
    )


def test_a_promotion_and_a_rollback_are_served_at_once(generator: BatchingGenerator, workshop: Workshop) -> None:
    one, two = ask(generator, "one").text, ask(generator, "two").text
    assert one != two
    maeari(workshop, "promote", "singer@1")
    first = ask(generator, "singer")
    assert (first.text, first.adapter, first.adapter_version) == (one, "singer", "singer@1")
    maeari(workshop, "promote", "singer@2")
    # The same prompt again: cached blocks of the version before must not leak in.
    second = ask(generator, "singer")
    assert (second.text, second.adapter_version) == (two, "singer@2")
    maeari(workshop, "rollback", "singer")
    back = ask(generator, "singer")
    assert (back.text, back.adapter_version) == (one, "singer@1")


def test_a_version_that_is_not_served_can_be_asked_for(generator: BatchingGenerator, workshop: Workshop) -> None:
    maeari(workshop, "promote", "singer@1")
    assert ask(generator, "singer@2").text == ask(generator, "two").text
    assert ask(generator, "singer").text == ask(generator, "one").text


def test_what_runs_ends_on_the_version_it_began_with(generator: BatchingGenerator, workshop: Workshop) -> None:
    registry = Registry(workshop.versions, workshop.folder / "models" / "adapters")
    expected = ask(generator, "one", LONG).text
    registry.promote("singer@1", None)
    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ask, generator, "singer", LONG, lambda _: begun.set())
        assert begun.wait(300)
        registry.promote("singer@2", None)
        assert ask(generator, "singer").text == ask(generator, "two").text
        assert not running.done(), "the first one was still under way"
        ended = running.result()
    assert (ended.text, ended.adapter_version) == (expected, "singer@1")
    until(lambda: generator.running == 0, "nothing runs")


def test_a_version_over_another_base_is_refused_and_nobody_else_suffers(
    generator: BatchingGenerator, workshop: Workshop
) -> None:
    registry = Registry(workshop.versions, workshop.folder / "models" / "adapters")
    registry.register("stranger", workshop.folder / "models" / "adapters" / "one", about("0123456789abcdef"))
    with pytest.raises(InvalidAdapter, match="another base model"):
        ask(generator, "stranger@1")
    assert ask(generator, "one").text


def test_a_damaged_version_is_refused_and_the_pointer_can_go_back(
    generator: BatchingGenerator, workshop: Workshop
) -> None:
    registry = Registry(workshop.versions, workshop.folder / "models" / "adapters")
    label = registry.register("singer", workshop.folder / "models" / "adapters" / "two", about("")).label
    registry.promote("singer@1", None)
    registry.promote(label, None)
    weights = registry.resolve(label)[1] / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-64])
    with pytest.raises(InvalidAdapter, match="cut off"):
        ask(generator, "singer")
    registry.rollback("singer")
    assert ask(generator, "singer").adapter_version == "singer@1"


def test_every_adapter_is_named(generator: BatchingGenerator, workshop: Workshop) -> None:
    assert {"one", "two", "singer"} <= set(generator._library.names())
    assert Path(generator._library.find("singer@1").folder).name == "1"
