"""The base language model: a small Llama and its tokenizer, trained from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from shared.settings import settings

from .card import recipe_hash
from .dialogue import load_dialogues, split_examples
from .loop import Loop, say
from .recipe import LanguageRecipe, Shape
from .scoring import examine
from .tokenizer import train_tokenizer

TOKENIZER_SAMPLE = 10_000
"""Dialogues of a source that the tokenizer is trained on."""

PASSED_ON = 0.3
"""Share of a token's embedding that a head passes on before training."""


def train(recipe: LanguageRecipe, out: Path) -> dict[str, Any]:
    """Write weights (bfloat16 safetensors), config, tokenizer and chat template into `out`; returns the figures."""
    torch.manual_seed(recipe.seed)
    tokenizer = _tokenizer(recipe)
    model = build(recipe.shape, tokenizer)
    run = settings().home / "runs" / f"language-{recipe_hash(recipe)}"
    loops = [_stage(recipe, index, model, tokenizer, run) for index in range(len(recipe.stages))]
    figures: dict[str, Any] = {"stages": [loop.run() for loop in loops]}
    save(model, tokenizer, out)
    figures |= {"parameters": model.num_parameters(), "vocabulary": len(tokenizer)}
    figures["held_out"] = examine(model, tokenizer, "neutral", recipe.examination)
    for loop in loops:
        loop.forget()
    return figures


def build(shape: Shape, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """An untrained Llama of that shape, its embedding shared between input and output."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    _ready_to_copy(model)
    return model


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """Write the model as it is served: bfloat16, with the end of a message as the end of generation.

    The model keeps the rounded weights, in float32: what is examined afterwards is what is served.
    """
    module: torch.nn.Module = model
    module.to(torch.bfloat16)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(out)
    module.to(torch.float32)
    tokenizer.save_pretrained(out)


def _stage(
    recipe: LanguageRecipe, index: int, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, run: Path
) -> Loop:
    stage = recipe.stages[index]
    seed = recipe.seed + index
    split = split_examples(load_dialogues(stage.data.sources, seed), tokenizer, stage.data, seed)
    say(f"stage {index}: {len(split.training)} examples, {len(split.validation)} to validate")
    return Loop(
        model,
        stage.schedule,
        split.training,
        split.validation,
        padding=int(tokenizer.pad_token_id),
        seed=seed,
        folder=run / str(index),
    )


@torch.no_grad()
def _ready_to_copy(model: LlamaForCausalLM) -> None:
    """Let every head begin by looking for its own token and passing on what stands there.

    Queries equal keys, and outputs undo values (after Trockman and Kolter 2023, "Mimetic initialization"): copying
    from the context, the last thing that a small model learns, is near from the first step.
    """
    for layer in model.model.layers:
        attention = layer.self_attn
        torch.nn.init.orthogonal_(attention.q_proj.weight)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        torch.nn.init.orthogonal_(attention.v_proj.weight)
        attention.o_proj.weight.copy_(PASSED_ON * attention.v_proj.weight.mT)


def _tokenizer(recipe: LanguageRecipe) -> PreTrainedTokenizerBase:
    sources = [
        source.model_copy(update={"count": min(source.count or TOKENIZER_SAMPLE, TOKENIZER_SAMPLE)})
        for source in recipe.stages[-1].data.sources
    ]
    texts = (turn.content for dialogue in load_dialogues(sources, recipe.seed) for turn in dialogue.messages)
    return train_tokenizer(texts, recipe.shape.vocabulary, recipe.shape.positions)
