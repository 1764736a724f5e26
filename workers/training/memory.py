"""What memory a recipe's training needs on a card: an estimate, made before anything is loaded.

All sizes are in bytes unless a name says otherwise. The sums follow published accounts, named beside each; they are
estimates: measure once on the card before a long run.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from pydantic import BaseModel
from transformers import AutoConfig

from shared.errors import ConfigurationInvalid
from shared.settings import settings

from .recipe import AdapterRecipe, Lora, invalid

GIB = 1024**3
CARDS_GIB = (12, 40)
"""Memory of the cards that a plan speaks of."""

RESERVED_GIB = 0.8
"""CUDA context, kernels and what the allocator's fragments leave unusable; typical of torch 2 on one card."""

NF4_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
"""Bytes per 4-bit weight with double quantization: 4 bits, an 8-bit scale per 64 weights, a 32-bit scale per 256 of
those (Dettmers et al. 2023, "QLoRA", section 3: 0.127 bits of constants per weight)."""

ANSWER_SHARE = 0.25
"""Share of the tokens that bear loss; persona, safety rules, context and questions are most of an example."""

BYTES_ON_DISK = 2 * (4 + 8) + 4 + 2
"""Per trained weight: a checkpoint (weights and two moments) beside its successor, the best weights, the result."""

FULL_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Architecture:
    """The sizes of a Llama that memory depends on."""

    width: int
    depth: int
    feed_forward: int
    heads: int
    key_value_heads: int
    vocabulary: int
    tied: bool = False
    """Input and output share one embedding."""

    @property
    def key_value_width(self) -> int:
        """Width of keys and of values."""
        return self.width // self.heads * self.key_value_heads

    def layer(self, name: str) -> tuple[int, int]:
        """Input and output width of a block's linear layer."""
        return {
            "q_proj": (self.width, self.width),
            "k_proj": (self.width, self.key_value_width),
            "v_proj": (self.width, self.key_value_width),
            "o_proj": (self.width, self.width),
            "gate_proj": (self.width, self.feed_forward),
            "up_proj": (self.width, self.feed_forward),
            "down_proj": (self.feed_forward, self.width),
        }[name]

    @property
    def linear(self) -> int:
        """Weights in the blocks' linear layers."""
        names = Lora.model_fields["targets"].default
        return self.depth * sum(math.prod(self.layer(name)) for name in names)

    @property
    def rest(self) -> int:
        """Weights outside them: embeddings and norms."""
        return self.vocabulary * self.width * (1 if self.tied else 2) + (2 * self.depth + 1) * self.width


KNOWN = {"MLP-KTLim/llama-3-Korean-Bllossom-8B": Architecture(4096, 32, 14336, 32, 8, 128_256)}
"""Bases that can be planned for without their files: the shape of Llama 3 8B."""


def check_room(recipe: AdapterRecipe, device: str, folder: Path) -> None:
    """Whether memory and disk are enough, as far as can be said before anything is loaded.

    Raises `ConfigurationInvalid` with what is needed and what is there.
    """
    known = recipe.base_model in KNOWN or (Path(settings().model(recipe.base_model)) / "config.json").is_file()
    if not known:
        return
    shape = architecture(recipe.base_model)
    need = sum(needs(recipe, shape, recipe.schedule.batch).values()) / GIB + RESERVED_GIB
    there = free_memory(device) / GIB
    if need > there:
        raise ConfigurationInvalid(
            f"Training needs about {need:.1f} GiB of memory, {there:.1f} GiB are free: lower schedule.batch and raise "
            "schedule.accumulation, or turn checkpointing on. See --plan.",
            field="schedule.batch",
        )
    files = adapter_parameters(recipe.lora, shape) * BYTES_ON_DISK
    folder.mkdir(parents=True, exist_ok=True)
    room = shutil.disk_usage(folder).free
    if files > room:
        raise ConfigurationInvalid(
            f"Checkpoints need about {files / GIB:.2f} GiB under {folder}, {room / GIB:.2f} GiB are free.", field="home"
        )


def free_memory(device: str) -> int:
    """Bytes that a training may take: of the card, or of this machine within its control group's limit."""
    if device == "cuda":
        free: int = torch.cuda.mem_get_info()[0]
        return free
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    available: int = psutil.virtual_memory().available
    try:
        return min(available, int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError):  # no control group, or one without a limit
        return available


def plan(path: Path, recipe: BaseModel) -> dict[str, Any]:
    """The parts of the need in GiB, and per card whether the recipe fits and with which batch.

    Raises `ConfigurationInvalid` where the recipe trains no adapter or the base's shape is unknown.
    """
    if not isinstance(recipe, AdapterRecipe):
        raise invalid(path, "kind", "only adapters are planned for")
    shape = architecture(recipe.base_model)
    parts = needs(recipe, shape, recipe.schedule.batch)
    return {
        "base_model": recipe.base_model,
        "base_parameters": shape.linear + shape.rest,
        "adapter_parameters": adapter_parameters(recipe.lora, shape),
        "tokens_per_example": recipe.data.max_tokens,
        "batch": recipe.schedule.batch,
        "need_gib": {name: round(size / GIB, 2) for name, size in parts.items()},
        "total_gib": round(sum(parts.values()) / GIB + RESERVED_GIB, 2),
        "cards": {f"{card} GiB": on_card(recipe, shape, card) for card in CARDS_GIB},
    }


def on_card(recipe: AdapterRecipe, shape: Architecture, card_gib: int) -> dict[str, Any]:
    """Whether the recipe fits as it is, and the largest batch that does, at the same examples per optimizer step."""
    schedule = recipe.schedule
    together = schedule.batch * schedule.accumulation
    for batch in sorted((b for b in range(1, schedule.batch + 1) if together % b == 0), reverse=True):
        total = sum(needs(recipe, shape, batch).values()) / GIB + RESERVED_GIB
        if total <= card_gib:
            return {
                "fits": batch == schedule.batch,
                "batch": batch,
                "accumulation": together // batch,
                "total_gib": round(total, 2),
            }
    return {"fits": False, "batch": None}


def needs(recipe: AdapterRecipe, shape: Architecture, batch: int) -> dict[str, float]:
    """Bytes by part, every example at its longest."""
    tokens = batch * recipe.data.max_tokens
    full = FULL_BYTES[recipe.precision]
    adapter = adapter_parameters(recipe.lora, shape)
    quantized = recipe.quantization == "4bit"
    return {
        # Embeddings and norms stay in the precision of the computation; bitsandbytes quantizes block layers alone.
        "weights": shape.linear * (NF4_BYTES if quantized else full) + shape.rest * full,
        # One layer's weights at a time are expanded for its product, in the forward and in the backward pass.
        "dequantized": 2 * shape.width * shape.feed_forward * full if quantized else 0,
        # peft keeps adapters in float32 over a half-precision base (`autocast_adapter_dtype`).
        "adapter": 4 * adapter,
        "gradients": 4 * adapter,
        # AdamW: two float32 moments (Rajbhandari et al. 2020, "ZeRO", section 3.1, K = 12 less the float32 copy).
        "optimizer": 8 * adapter,
        "activations": _activations(recipe, shape, tokens, full),
        # Logits of the answer tokens alone: half precision, float32 and its gradient.
        "logits": tokens * shape.vocabulary * (full + 4 + 4) * ANSWER_SHARE,
    }


def adapter_parameters(lora: Lora, shape: Architecture) -> int:
    """Weights of the low-rank pairs: rank x (input + output) per layer (Hu et al. 2021, "LoRA", section 4.1)."""
    return shape.depth * lora.rank * sum(sum(shape.layer(name)) for name in lora.targets)


def architecture(base_model: str) -> Architecture:
    """The base's shape: known by name, or read from its folder's config. Raises `ConfigurationInvalid`."""
    if base_model in KNOWN:
        return KNOWN[base_model]
    folder = Path(settings().model(base_model))
    if not (folder / "config.json").is_file():
        raise ConfigurationInvalid(f"The shape of {base_model} is not known here; give its folder.", field="base_model")
    config = AutoConfig.from_pretrained(folder)
    return Architecture(
        config.hidden_size,
        config.num_hidden_layers,
        config.intermediate_size,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.vocab_size,
        config.tie_word_embeddings,
    )


def _activations(recipe: AdapterRecipe, shape: Architecture, tokens: int, full: int) -> float:
    """What the backward pass needs of the forward pass.

    Per block and token, attention being computed in tiles (Korthikanti et al. 2022, "Reducing Activation
    Recomputation", table 2, without the quadratic term; gated feed-forward instead of theirs): block input, two norms,
    q, attention output and residual of the block's width, k and v, and gate, up, their activation and product of the
    inner width. Each layer with an adapter adds its low-rank product and, with dropout, a copy of its input and a
    mask of one byte. With checkpointing only block inputs are kept (2 s b h L there) and one block is live at a time.
    """
    plain = 6 * shape.width + 2 * shape.key_value_width + 4 * shape.feed_forward
    lora = recipe.lora
    beside = len(lora.targets) * lora.rank * full
    if lora.dropout:
        beside += sum(shape.layer(name)[0] for name in lora.targets) * (full + 1)
    block = tokens * (plain * full + beside)
    if recipe.checkpointing:
        # The gradients of a block's activations live beside them while it is being differentiated.
        return tokens * shape.width * full * shape.depth + block + tokens * plain * full
    return block * shape.depth
