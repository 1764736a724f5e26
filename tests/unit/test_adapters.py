"""Adapters are judged by their files alone: configuration and the header of the weights."""

from __future__ import annotations

import asyncio
import json
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shared.errors import InvalidAdapter, UnknownAdapter
from shared.versions import Registry
from workers.engines import adapters
from workers.engines.adapters import CONFIG, WEIGHTS, Adapter, BaseShape, Library, Shelf

BASE = BaseShape.of(
    SimpleNamespace(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1
    )
)
Q = "base_model.model.model.layers.0.self_attn.q_proj"


def weights(shapes: dict[str, list[int]]) -> bytes:
    """A safetensors file of zeros."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        size = 4
        for side in shape:
            size *= side
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(end)


def lay(folder: Path, *, shapes: dict[str, list[int]] | None = None, **config: Any) -> Path:
    """A good adapter of rank 4 but for what is given."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none"} | config))
    (folder / WEIGHTS).write_bytes(weights(shapes or {f"{Q}.lora_A.weight": [4, 64], f"{Q}.lora_B.weight": [64, 4]}))
    return folder


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """Serves adapters of rank up to 8."""
    return Library(Registry(tmp_path / "versions", tmp_path), BASE, 8)


def test_a_good_adapter(library: Library, tmp_path: Path) -> None:
    lay(tmp_path / "good")
    adapter = library.find("good")
    assert library.names() == ("good",)
    assert adapter.version.startswith("good@")
    assert 1 <= adapter.number < 2**31
    assert library.find("good") is adapter


def test_the_same_content_has_the_same_number_and_another_content_another(library: Library, tmp_path: Path) -> None:
    first = library.find(lay(tmp_path / "kind").name)
    assert Library(Registry(tmp_path / "versions", tmp_path), BASE, 8).find("kind").number == first.number
    assert library.find(lay(tmp_path / "other").name).number != first.number


def test_a_burst_looks_once_and_the_next_one_again(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(adapters.time, "monotonic", lambda: now)
    first = library.find(lay(tmp_path / "kind").name)
    lay(tmp_path / "kind", lora_alpha=16)
    now += adapters.FRESH_S / 2
    assert library.find("kind") is first
    now += adapters.FRESH_S
    assert library.find("kind").number != first.number


@pytest.mark.parametrize("name", ["nobody", "nobody.yet"])
def test_an_unknown_adapter(library: Library, name: str) -> None:
    with pytest.raises(UnknownAdapter, match=name) as caught:
        library.find(name)
    assert caught.value.field == "adapter"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"peft_type": "PROMPT_TUNING"}, "only LORA"),
        ({"r": 16}, "rank 16 is over the limit of 8"),
        ({"r": 0}, "not a positive number"),
        ({"r": "4"}, "not a positive number"),
        ({"r": True}, "not a positive number"),
        ({"r": 8}, "the configuration says 8"),
        ({"rank_pattern": {"q_proj": 32}}, "rank 32 is over the limit"),
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias"),
    ],
)
def test_a_configuration_that_is_not_served(
    library: Library, tmp_path: Path, config: dict[str, Any], words: str
) -> None:
    lay(tmp_path / "odd", **config)
    with pytest.raises(InvalidAdapter, match=words) as caught:
        library.find("odd")
    assert caught.value.field == "adapter"
    assert "'odd'" in caught.value.message


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({f"{Q}.lora_A.weight": [4, 96], f"{Q}.lora_B.weight": [96, 4]}, "another base model.*96 to 96.*64 to 64"),
        (
            {
                "base_model.model.model.layers.2.mlp.up_proj.lora_A.weight": [4, 64],
                "base_model.model.model.layers.2.mlp.up_proj.lora_B.weight": [128, 4],
            },
            "another base model.*2 layers",
        ),
        ({f"{Q}.lora_A.weight": [4, 64]}, "lacks one"),
        ({f"{Q}.lora_A.weight": [4, 64], f"{Q}.lora_B.weight": [64, 2]}, "rank of .* is 4 and 2"),
        ({"base_model.model.lm_head.weight": [401, 64]}, "no LoRA matrix"),
        ({f"{Q}.lora_A.weight": [4, 8, 8], f"{Q}.lora_B.weight": [64, 4]}, "no LoRA matrix"),
        (
            {
                "base_model.model.model.embed_tokens.lora_A.weight": [4, 64],
                "base_model.model.model.embed_tokens.lora_B.weight": [64, 4],
            },
            "embed_tokens",
        ),
    ],
)
def test_weights_that_do_not_fit(library: Library, tmp_path: Path, shapes: dict[str, list[int]], words: str) -> None:
    lay(tmp_path / "odd", shapes=shapes)
    with pytest.raises(InvalidAdapter, match=words):
        library.find("odd")


GOOD = weights({f"{Q}.lora_A.weight": [4, 64], f"{Q}.lora_B.weight": [64, 4]})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "cut off or not"),
        (b"PK\x03\x04 a pickle, perhaps", "cut off or not"),
        (struct.pack("<Q", 2**63) + b"{}", "cut off or not"),
        (struct.pack("<Q", 4) + b"[1]!", "damaged"),
        (struct.pack("<Q", 8) + b'{"a": 1}', "damaged"),
        (struct.pack("<Q", 2) + b"{}", "no weights"),
        (GOOD[:-1], "cut off"),
        (GOOD + b"x", "cut off"),
    ],
)
def test_a_damaged_file(library: Library, tmp_path: Path, data: bytes, words: str) -> None:
    (lay(tmp_path / "odd") / WEIGHTS).write_bytes(data)
    with pytest.raises(InvalidAdapter, match=words):
        library.find("odd")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_numbers(library: Library, tmp_path: Path, value: float) -> None:
    (lay(tmp_path / "odd") / WEIGHTS).write_bytes(GOOD[:-8] + struct.pack("<f", value) + GOOD[-4:])
    with pytest.raises(InvalidAdapter, match="not finite"):
        library.find("odd")


@pytest.mark.parametrize(("old", "new", "words"), [(b'"F32"', b'"I32"', "type I32"), (b'"F32"', b'"F16"', "damaged")])
def test_weights_of_another_type(library: Library, tmp_path: Path, old: bytes, new: bytes, words: str) -> None:
    (lay(tmp_path / "odd") / WEIGHTS).write_bytes(GOOD.replace(old, new))
    with pytest.raises(InvalidAdapter, match=words):
        library.find("odd")


@pytest.mark.parametrize("missing", [CONFIG, WEIGHTS])
def test_a_missing_file(library: Library, tmp_path: Path, missing: str) -> None:
    (lay(tmp_path / "odd") / missing).unlink()
    with pytest.raises(InvalidAdapter, match=f"it has no {missing}"):
        library.find("odd")


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff"])
def test_a_configuration_that_is_not_json(library: Library, tmp_path: Path, text: str) -> None:
    (lay(tmp_path / "odd") / CONFIG).write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidAdapter, match="is not"):
        library.find("odd")


class HoldingEngine:
    """FAKE: holds adapter numbers as the engine would, and counts what it must read."""

    def __init__(self) -> None:
        self.held: set[int] = set()
        self.most = 0
        self.loads = 0

    async def add_lora(self, lora_request: Any) -> bool:
        await asyncio.sleep(0)
        assert lora_request.lora_int_id not in self.held
        self.held.add(lora_request.lora_int_id)
        self.most = max(self.most, len(self.held))
        self.loads += 1
        return True

    async def remove_lora(self, lora_id: int) -> bool:
        self.held.remove(lora_id)
        return True


def handle(adapter: Adapter) -> Any:
    """What stands in for the engine's own request object."""
    return SimpleNamespace(lora_int_id=adapter.number)


async def test_the_shelf_loads_once_and_never_more_than_it_has_room_for(tmp_path: Path) -> None:
    adapters = [Adapter(f"a{number}", tmp_path, str(number)) for number in range(6)]
    engine = HoldingEngine()
    shelf = Shelf(engine, 2, handle)

    async def use(adapter: Adapter) -> None:
        async with shelf.lend(adapter) as request:
            for _ in range(5):
                assert request.lora_int_id in engine.held
                await asyncio.sleep(0)

    await asyncio.gather(*(use(adapters[0]) for _ in range(20)))
    assert engine.loads == 1
    await asyncio.wait_for(asyncio.gather(*(use(adapter) for adapter in adapters * 10)), 120)
    assert engine.most == 2


async def test_a_cancelled_wait_keeps_no_place(tmp_path: Path) -> None:
    first, second = (Adapter(name, tmp_path, name) for name in ("a", "b"))
    shelf = Shelf(HoldingEngine(), 1, handle)
    async with shelf.lend(first):
        waiting = asyncio.create_task(shelf.lend(second).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with shelf.lend(second) as request:
        assert request.lora_int_id == second.number
