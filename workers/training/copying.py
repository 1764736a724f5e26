"""Start a small Llama with the circuit that copies from its context, which it would otherwise learn last.

Copying "A B ... A" as "B" takes two attention layers (Olsson et al. 2022, "In-context learning and induction heads"):
one that notes at each token which token came before, one that looks for the place before which the present token
stood and passes on what stands there. Both are linear maps that can be written down. Training then sharpens them
rather than searching for them, which takes a small model thousands of steps.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import LlamaForCausalLM

COMMON = 1.5
"""Length of the direction that all embeddings share, in units of their own length: what a head reads that looks at
positions alone."""

SHARP = 5.0
"""Advantage of the token before over its neighbours, in logits."""

MATCH = 12.0
"""Squared gain of comparing the present token with those noted before."""

PASSED_ON = 8.0
"""Gain of what is copied, against the token that stands there itself."""

OUTPUT = 4.0
"""Gain of the last norm; tied embeddings are too short for a confident answer without it."""

SLOW = 6
"""First rotary pair that content is compared in; the faster ones turn too far between distant places."""


@torch.no_grad()
def begin_with_copying(model: LlamaForCausalLM, seed: int) -> None:
    """Write the circuit into the first two blocks; all other blocks begin as silent. Needs two blocks and two heads."""
    config: Any = model.config
    if config.num_hidden_layers < 2 or config.num_attention_heads < 2 or config.head_dim < 4 * SLOW:
        return
    _silence(model)
    basis = _orthogonal(config.hidden_size, seed)
    half = (config.hidden_size - 1) // 2
    common, own, before = basis[0], basis[1 : 1 + half], basis[1 + half : 1 + 2 * half]
    spread = config.initializer_range
    model.model.embed_tokens.weight.add_(spread * COMMON * math.sqrt(config.hidden_size) * common)
    model.model.norm.weight.fill_(OUTPUT)
    _note_the_token_before(model, common, own, before)
    _look_it_up(model, own, before, seed)


def _silence(model: LlamaForCausalLM) -> None:
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()


def _note_the_token_before(
    model: LlamaForCausalLM, common: torch.Tensor, own: torch.Tensor, before: torch.Tensor
) -> None:
    """Half the first block's heads: attend one place back, and write that token's `own` directions as `before`."""
    config: Any = model.config
    attention = model.model.layers[0].self_attn
    size, pairs = config.head_dim, config.head_dim // 2
    turns = _turns(model)
    # The score of a place d back is gain^2 * sum cos((d - 1) turn): highest at d = 1.
    advantage = (1 - torch.cos(turns)).sum().item()
    level = COMMON * math.sqrt(config.hidden_size) / math.sqrt(1 + COMMON**2)
    gain = math.sqrt(SHARP * math.sqrt(size) / advantage) / level
    key = torch.cat([torch.ones(pairs), torch.zeros(pairs)])
    query = torch.cat([torch.cos(turns), -torch.sin(turns)])
    written = config.initializer_range * math.sqrt(1 + COMMON**2)
    for head in range(config.num_attention_heads // 2):
        rows = slice(head * size, (head + 1) * size)
        attention.q_proj.weight[rows] = gain * query[:, None] * common
        attention.k_proj.weight[rows] = gain * key[:, None] * common
        count = len(own[rows])
        attention.v_proj.weight[rows] = 0
        attention.v_proj.weight[rows][:count] = own[rows]
        attention.o_proj.weight[:, rows][:, :count] = written * before[rows].mT


def _look_it_up(model: LlamaForCausalLM, own: torch.Tensor, before: torch.Tensor, seed: int) -> None:
    """The second block: attend where `before` equals the present token's `own`, and pass the token there on."""
    config: Any = model.config
    attention = model.model.layers[1].self_attn
    size, pairs = config.head_dim, config.head_dim // 2
    slow = [*range(SLOW, pairs), *range(pairs + SLOW, size)]
    gain = math.sqrt(MATCH)
    for head in range(config.num_attention_heads):
        mixed = gain * _orthogonal(len(own), seed + 1 + head)[: len(slow)]
        for projection, read in ((attention.q_proj, own), (attention.k_proj, before)):
            rows = projection.weight[head * size : (head + 1) * size]
            rows.zero_()
            rows[slow] = mixed @ read
    values = _orthogonal(config.hidden_size, seed + 1000)
    attention.v_proj.weight.copy_(values)
    attention.o_proj.weight.copy_(config.initializer_range * PASSED_ON * values.mT)


def _turns(model: LlamaForCausalLM) -> torch.Tensor:
    """Angle per place of each rotary pair, in radians."""
    config: Any = model.config
    pairs = config.head_dim // 2
    base = float(config.rope_parameters["rope_theta"])
    turns: torch.Tensor = base ** (-torch.arange(pairs) / pairs)
    return turns


def _orthogonal(size: int, seed: int) -> torch.Tensor:
    """Rows of a random orthogonal matrix."""
    draw = torch.Generator().manual_seed(seed)
    rotation: torch.Tensor = torch.linalg.qr(torch.randn(size, size, generator=draw)).Q
    return rotation
