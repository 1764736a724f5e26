"""A static Korean sentence embedding: one vector per piece of a word, averaged; milliseconds on any CPU."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from shared.errors import TrainingFailed

from .corpus import PACKS, Pair, Question, pairs, questions, sections
from .corpus.facts import section_of
from .corpus.values import common_syllables
from .progress import say, watch
from .recipe import Part, Positive

UNKNOWN = "[UNK]"
"""The token of what the vocabulary lacks."""


class EmbeddingRecipe(Part):
    """A static Korean sentence embedding that ranks the packs' knowledge."""

    kind: Literal["embedding"]
    seed: int = 0
    vocabulary: Annotated[int, Field(ge=2600)]
    """Pieces of words; the 2,350 common syllables are always among them, so that no Korean is unknown."""
    dimensions: Annotated[int, Field(ge=32, le=1024)]
    variants: Positive
    """Passages with other values per question, beside the real one."""
    epochs: Positive
    batch: Annotated[int, Field(ge=2)]
    """Pairs of different sections that are each other's negatives."""
    learning_rate: Annotated[float, Field(gt=0, le=0.5)]


def train(recipe: EmbeddingRecipe, out: Path) -> dict[str, Any]:
    """Train, save to `out`, and examine what was saved."""
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    examples = [(pack, pair) for pack in PACKS for pair in pairs(pack, "train", recipe.seed, recipe.variants)]
    tokenizer = _tokenizer(examples, recipe.vocabulary)
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=recipe.dimensions)], device="cpu")
    loss = _fit(model, examples, recipe)
    model.save_pretrained(str(out), create_model_card=False)
    return {"pairs": len(examples), "training_loss": round(loss, 4), **examine(out)}


def examine(folder: Path) -> dict[str, Any]:
    """How often the right chunk of a pack is among the first for the pack's held-out questions."""
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    figures: dict[str, Any] = {}
    for pack in PACKS:
        held = [question for question in questions(pack) if question.split == "held"]
        for kind in ("combination", "paraphrase"):
            asked = [question for question in held if question.kind == kind]
            figures[f"{pack}_{kind}s"] = _hits(model, pack, asked)
    return figures


def _hits(model: SentenceTransformer, pack: str, asked: Sequence[Question]) -> dict[str, Any]:
    chunks = list(sections(pack))
    known = model.encode([chunk.text() for chunk in chunks], normalize_embeddings=True, convert_to_tensor=True)
    wanted = model.encode([question.text for question in asked], normalize_embeddings=True, convert_to_tensor=True)
    order = (wanted @ known.T).argsort(dim=1, descending=True)
    right = torch.tensor([_position(chunks, section_of(pack, question.fact_id)) for question in asked])
    ranks = (order == right[:, None]).int().argmax(dim=1)
    missed = [
        f"{question.text} -> {chunks[int(best)].heading}"
        for question, best, rank in zip(asked, order[:, 0], ranks, strict=True)
        if rank >= 3
    ]
    return {
        "hit@1": round((ranks < 1).float().mean().item(), 4),
        "hit@3": round((ranks < 3).float().mean().item(), 4),
        "questions": len(asked),
        "chunks": len(chunks),
        "missed": missed[:5],
    }


def _position(chunks: Sequence[Any], section: Any) -> int:
    return next(index for index, chunk in enumerate(chunks) if chunk.id == section.id)


def _tokenizer(examples: Sequence[tuple[str, Pair]], vocabulary: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation("removed"), pre_tokenizers.Metaspace()]
    )
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=common_syllables(),
        special_tokens=[UNKNOWN, "[PAD]"],
        show_progress=False,
    )
    texts = sorted({text for _, pair in examples for text in (pair.question, pair.passage)})
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _fit(model: SentenceTransformer, examples: Sequence[tuple[str, Pair]], recipe: EmbeddingRecipe) -> float:
    rng = random.Random(recipe.seed)
    loss = MultipleNegativesRankingLoss(model)
    optimizer = torch.optim.Adam(loss.parameters(), lr=recipe.learning_rate)
    mean, step, started = 0.0, 0, time.monotonic()
    for epoch in range(recipe.epochs):
        batches = batches_of(examples, recipe.batch, rng)
        total = 0.0
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * (1 - epoch / recipe.epochs)
        for number, batch in enumerate(batches, 1):
            watch.check(None, step)
            step = epoch * len(batches) + number
            value = loss([model.preprocess(list(texts)) for texts in zip(*batch, strict=True)], None)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            total += value.item()
            _tell(step, recipe.epochs * len(batches), total / number, optimizer, time.monotonic() - started)
        mean = total / len(batches)
        if not math.isfinite(mean):
            raise TrainingFailed(f"The loss is {mean} in epoch {epoch + 1}.")
        say(f"epoch {epoch + 1}/{recipe.epochs} loss {mean:.4f}")
    return mean


def _tell(step: int, steps: int, loss: float, optimizer: torch.optim.Optimizer, elapsed_s: float) -> None:
    left = elapsed_s / step * (steps - step)
    watch.tell(step=step, steps=steps, loss=loss, rate=optimizer.param_groups[0]["lr"], eta_s=left)


def batches_of(examples: Sequence[tuple[str, Pair]], size: int, rng: random.Random) -> list[list[tuple[str, str]]]:
    """All pairs once; within a batch every section stands once, for a second would be a false negative."""
    batches: list[list[tuple[str, str]]] = []
    taken: list[set[str]] = []
    first = 0
    for pack, pair in rng.sample(examples, len(examples)):
        section = f"{pack}/{section_of(pack, pair.fact_id).id}"
        place = next((i for i in range(first, len(batches)) if section not in taken[i]), len(batches))
        if place == len(batches):
            batches.append([])
            taken.append(set())
        batches[place].append((pair.question, pair.passage))
        taken[place].add(section)
        while first < len(batches) and len(batches[first]) >= size:
            first += 1
    return [batch for batch in batches if len(batch) > 1]
