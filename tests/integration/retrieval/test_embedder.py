"""Vectors are the library's own, whether or not its way to them is taken."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize

from workers.engines.embedder import SentenceEmbedder

TEXTS = ["안녕하세요", "비가 온다. 12:30에 만나!", "", "!!!", "바닷가를 걷다가 친구를 만났다. " * 40, "ㅋㅋㅋ"]


def _saved(model: SentenceTransformer, folder: Path) -> str:
    model.save_pretrained(str(folder), create_model_card=False)
    return str(folder)


@pytest.fixture(params=["a table", "a table with prompts", "a table and more"])
def source(request: pytest.FixtureRequest, models: tuple[Path, Path], tmp_path: Path) -> str:
    model = SentenceTransformer(str(models[0]), device="cpu")
    if request.param == "a table":
        return str(models[0])
    if request.param == "a table and more":
        return _saved(SentenceTransformer(modules=[model[0], Normalize()], device="cpu"), tmp_path / "more")
    model.prompts = {"query": "질문: ", "document": "글: "}
    return _saved(model, tmp_path / "prompts")


def test_vectors_are_those_of_the_library(source: str) -> None:
    library: Any = SentenceTransformer(source, device="cpu")
    embedder = SentenceEmbedder(source)
    documents = library.encode_document(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(np.array(embedder.embed(TEXTS)), documents, atol=1e-6)
    question = library.encode_query([TEXTS[1]], normalize_embeddings=True)[0]
    np.testing.assert_allclose(np.array(embedder.embed_query(TEXTS[1])), question, atol=1e-6)
    embedder.close()


def test_callers_at_once_get_the_vectors_of_their_own_texts(source: str) -> None:
    embedder = SentenceEmbedder(source)
    calls = [[f"{caller}번째 사람의 {place}번째 글" for place in range(caller * 30)] for caller in range(1, 13)]
    alone = [np.array(embedder.embed(texts)) for texts in calls]
    with ThreadPoolExecutor(len(calls)) as pool:
        together = list(pool.map(embedder.embed, calls))
    for expected, found in zip(alone, together, strict=True):
        np.testing.assert_allclose(np.array(found), expected, atol=1e-6)
    embedder.close()
