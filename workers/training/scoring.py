"""How good a model is on dialogues that were held out from training, answered greedily."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from .corpus import PACKS, Dialogue, dialogues, violations
from .corpus.facts import table
from .recipe import Examination

SEED = 1_000_003
"""Seed of the held-out dialogues; the generator keeps their wordings and values apart from training's."""

BATCH = 32
"""Cases that are answered together."""

STATED = ("fact", "invented", "recall", "statement")
"""Kinds whose answer must hold a value."""

UNKNOWN = ("unknown", "forgotten")
"""Kinds whose answer must admit that it does not know."""

SHOWN = 6
"""Answers that the figures quote."""


def examine(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, style: str, examination: Examination
) -> dict[str, Any]:
    """Shares of right replies per kind and of replies in style, the same against every other style, some replies."""
    cases = held_out(style, examination.cases)
    replies = answer(model, tokenizer, cases, examination.max_new_tokens)
    pairs = list(zip(cases, replies, strict=True))
    figures: dict[str, Any] = {"cases": len(pairs)}
    for kind in STATED:
        figures[f"{kind}_stated"] = _share(pairs, states, (kind,))
    figures["unknown_admitted"] = _share(pairs, admits, UNKNOWN)
    figures["style_kept"] = _share(pairs, lambda case, reply: not violations(style, reply, case.name))
    figures["other_style_kept"] = {
        other: _other(model, tokenizer, other, examination) for other in PACKS if other != style
    }
    figures["samples"] = [_sample(case, reply) for case, reply in pairs[:: max(1, len(pairs) // SHOWN)][:SHOWN]]
    return figures


def held_out(style: str, cases: int) -> list[Dialogue]:
    """`cases` held-out dialogues of each kind that is counted."""
    found: dict[str, list[Dialogue]] = defaultdict(list)
    for dialogue in dialogues(style, cases * 40, seed=SEED, split="held"):
        if len(found[dialogue.kind]) < cases:
            found[dialogue.kind].append(dialogue)
    return [case for kind in (*STATED, *UNKNOWN) for case in found[kind]]


@torch.no_grad()
def answer(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, cases: Sequence[Dialogue], max_new_tokens: int
) -> list[str]:
    """The model's greedy replies, in order; prompts of like length are answered together, which saves most padding."""
    model.eval()
    runner: Any = model
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
    )
    replies = [""] * len(cases)
    places = sorted(range(len(cases)), key=lambda place: sum(len(m.content) for m in cases[place].messages))
    for start in range(0, len(places), BATCH):
        batch = places[start : start + BATCH]
        prompts = [
            tokenizer.apply_chat_template(
                [{"role": m.role, "content": m.content} for m in cases[place].messages],
                add_generation_prompt=True,
                tokenize=False,
            )
            for place in batch
        ]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False).to(runner.device)
        inputs.pop("token_type_ids", None)
        output = runner.generate(**inputs, generation_config=config)
        texts = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for place, text in zip(batch, texts, strict=True):
            replies[place] = text
    return replies


def states(case: Dialogue, reply: str) -> bool:
    """Every expected value stands in the reply; spacing does not matter."""
    return all(_squeezed(value) in _squeezed(reply) for value in case.expect)


def admits(case: Dialogue, reply: str) -> bool:
    """The reply holds one of the style's ways to say that it does not know."""
    ways: list[str] = table("styles")[case.style]["unknown"]
    return any(_squeezed(way) in _squeezed(reply) for way in ways)


def _other(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, other: str, examination: Examination) -> float:
    """Share of replies to `other`'s prompts that keep `other`'s rules; a wrong adapter should break them."""
    cases = held_out(other, max(1, examination.cases // 4))
    replies = answer(model, tokenizer, cases, examination.max_new_tokens)
    return _share(zip(cases, replies, strict=True), lambda case, reply: not violations(other, reply, case.name))


def _share(
    pairs: Iterable[tuple[Dialogue, str]],
    good: Callable[[Dialogue, str], bool],
    kinds: Sequence[str] = (*STATED, *UNKNOWN),
) -> float:
    verdicts = [good(case, reply) for case, reply in pairs if case.kind in kinds]
    return round(sum(verdicts) / max(1, len(verdicts)), 3)


def _sample(case: Dialogue, reply: str) -> dict[str, Any]:
    return {"kind": case.kind, "asked": case.messages[-1].content, "expected": list(case.expect), "reply": reply}


def _squeezed(text: str) -> str:
    return "".join(text.split())
