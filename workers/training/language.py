"""The base language model: a small Llama and its tokenizer, trained from nothing."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from shared.settings import settings

from .card import recipe_hash
from .dialogue import Dialogue, load_dialogues, split_examples
from .loop import Loop, say
from .recipe import LanguageRecipe, Shape
from .scoring import examine
from .tokenizer import train_tokenizer

TOKENIZER_SAMPLE = 20_000
"""Dialogues that the tokenizer is trained on."""


def train(recipe: LanguageRecipe, out: Path) -> dict[str, Any]:
    """Write weights (bfloat16 safetensors), config, tokenizer and chat template into `out`; returns the figures."""
    torch.manual_seed(recipe.seed)
    dialogues = list(load_dialogues(recipe.data.sources, recipe.seed))
    tokenizer = train_tokenizer(_texts(dialogues, recipe.seed), recipe.shape.vocabulary, recipe.shape.positions)
    split = split_examples(dialogues, tokenizer, recipe.data, recipe.seed)
    say(f"{len(split.training)} examples, {len(split.validation)} to validate, {split.left_out} too long")
    model = build(recipe.shape, tokenizer)
    padding = int(tokenizer.pad_token_id)
    folder = settings().home / "runs" / f"language-{recipe_hash(recipe)}"
    loop = Loop(
        model, recipe.schedule, split.training, split.validation, padding=padding, seed=recipe.seed, folder=folder
    )
    figures = loop.run()
    save(model, tokenizer, out)
    figures |= {"parameters": model.num_parameters(), "vocabulary": len(tokenizer), "examples": len(split.training)}
    figures["held_out"] = examine(model, tokenizer, "neutral", recipe.examination)
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
    return LlamaForCausalLM(config)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """Write the model as it is served: bfloat16, with the end of a message as the end of generation.

    The model keeps the rounded weights, in float32: what is examined afterwards is what is served.
    """
    model.to(torch.bfloat16)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(out)
    model.to(torch.float32)
    tokenizer.save_pretrained(out)


def _texts(dialogues: list[Dialogue], seed: int) -> list[str]:
    sample = random.Random(seed).sample(dialogues, min(TOKENIZER_SAMPLE, len(dialogues)))
    return [turn.content for dialogue in sample for turn in dialogue.messages]
