"""The base language model: a small Llama and its tokenizer, trained from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from shared.settings import settings

from .card import recipe_hash
from .copying import begin_with_copying
from .dialogue import load_dialogues, split_examples
from .files import alone
from .loop import Loop
from .progress import say, watch
from .recipe import LanguageRecipe, Shape
from .scoring import examine
from .tokenizer import train_tokenizer


def train(recipe: LanguageRecipe, out: Path) -> dict[str, Any]:
    """Write weights (bfloat16 safetensors), config, tokenizer and chat template into `out`; returns the figures."""
    run = settings().home / "runs" / f"language-{recipe_hash(recipe)}"
    with alone(run):
        return _train(recipe, out, run)


def _train(recipe: LanguageRecipe, out: Path, run: Path) -> dict[str, Any]:
    torch.manual_seed(recipe.seed)
    tokenizer = _tokenizer(recipe)
    model = build(recipe.shape, tokenizer, recipe.seed)
    loops = [_stage(recipe, index, model, tokenizer, run) for index in range(len(recipe.stages))]
    figures: dict[str, Any] = {"stages": []}
    for number, loop in enumerate(loops, 1):
        watch.stage = f"language, stage {number} of {len(loops)}"
        figures["stages"].append(loop.run())
    save(model, tokenizer, out)
    figures |= {"parameters": model.num_parameters(), "vocabulary": len(tokenizer)}
    figures["held_out"] = examine(model, tokenizer, "neutral", recipe.examination)
    watch.at_end += [loop.forget for loop in loops]
    return figures


def build(shape: Shape, tokenizer: PreTrainedTokenizerBase, seed: int) -> LlamaForCausalLM:
    """A Llama of that shape that can copy and nothing else; input and output share one embedding."""
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
    begin_with_copying(model, seed)
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


def _tokenizer(recipe: LanguageRecipe) -> PreTrainedTokenizerBase:
    dialogues = load_dialogues(recipe.tokenizer, recipe.seed)
    texts = (turn.content for dialogue in dialogues for turn in dialogue.messages)
    return train_tokenizer(texts, recipe.shape.vocabulary, recipe.shape.positions)
