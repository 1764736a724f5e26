"""A tiny embedding model for tests: random vectors of word pieces, averaged. Texts that share words are alike."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

PIECES = 400
"""Pieces of more than one character."""


def make_embedding_model(folder: Path, texts: Iterable[str], *, dimension: int = 256, seed: int = 0) -> Path:
    """Write a sentence-transformers model; another seed or dimension is another model version."""
    torch.manual_seed(seed)
    tokenizer = Tokenizer(models.Unigram(_vocabulary("\n".join(texts)), unk_id=0))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=dimension)], device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def _vocabulary(text: str) -> list[tuple[str, float]]:
    """Characters and the stretches of words that save most; `tokenizers`' own trainer finds others in every run."""
    counts: Counter[str] = Counter()
    for word, times in Counter(f"▁{word}" for word in text.split()).items():
        for start in range(len(word)):
            for end in range(start + 1, len(word) + 1):
                counts[word[start:end]] += times
    best = sorted(counts, key=lambda piece: (len(piece) > 1, -counts[piece] * (len(piece) - 1), piece))
    letters = sum(len(piece) == 1 for piece in best)
    total = counts.total()
    kept = [(piece, math.log(counts[piece] / total)) for piece in best[: letters + PIECES]]
    return [("[UNK]", -100.0), *kept]
