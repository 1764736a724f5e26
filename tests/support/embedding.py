"""A tiny embedding model for tests: random vectors of word pieces, averaged. Texts that share words are alike."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers


def make_embedding_model(folder: Path, texts: Iterable[str], *, dimension: int = 64, seed: int = 0) -> Path:
    """Write a sentence-transformers model; another seed or dimension is another model version."""
    torch.manual_seed(seed)
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=400, special_tokens=["[UNK]", "[PAD]"], unk_token="[UNK]", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=dimension)], device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    return folder
