"""The static sentence embedding: its batches, its tokens, and what a short training already ranks right."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from shared.errors import ConfigurationInvalid
from shared.settings import settings
from workers.training.__main__ import main
from workers.training.corpus import PACKS, pairs
from workers.training.corpus.facts import section_of
from workers.training.embedding import EmbeddingRecipe, batches_of, train
from workers.training.recipe import read_recipe

RECIPE = EmbeddingRecipe(
    kind="embedding", seed=1, vocabulary=2700, dimensions=64, variants=1, epochs=1, batch=16, learning_rate=0.02
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    out = tmp_path_factory.mktemp("embedding")
    return out, train(RECIPE, out)


def test_held_out_questions_find_their_chunk(trained: tuple[Path, dict[str, object]]) -> None:
    _, figures = trained
    for pack in PACKS:
        for kind in ("combinations", "paraphrases"):
            measured = figures[f"{pack}_{kind}"]
            assert isinstance(measured, dict)
            assert measured["questions"] > 50
            assert measured["hit@3"] >= 0.95, measured


def test_saved_model_loads_offline_and_knows_every_common_syllable(trained: tuple[Path, dict[str, object]]) -> None:
    model = SentenceTransformer(str(trained[0]), device="cpu", local_files_only=True)
    vocabulary = json.loads((trained[0] / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert {"뷔", "꿨", "찮"} <= set(vocabulary)
    vectors = model.encode(
        ["배송은 언제 와요?", "배송은 사흘 걸립니다.", "주차는 무료입니다."], normalize_embeddings=True
    )
    assert vectors.shape == (3, RECIPE.dimensions)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_same_recipe_gives_the_same_weights(trained: tuple[Path, dict[str, object]], tmp_path: Path) -> None:
    train(RECIPE, tmp_path)
    first, second = (
        SentenceTransformer(str(folder), device="cpu", local_files_only=True).encode(
            "엄마 첫 직장", convert_to_tensor=True
        )
        for folder in (trained[0], tmp_path)
    )
    assert torch.allclose(first, second, atol=1e-5)


def test_a_rerun_is_held_against_the_card(
    trained: tuple[Path, dict[str, object]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, model = tmp_path / "small.yaml", tmp_path / "model"
    recipe.write_text(RECIPE.model_dump_json(), encoding="utf-8")
    assert main([str(recipe), "--out", str(model), "--again"]) == 1
    assert "has no figures" in capsys.readouterr().err
    model.mkdir()
    figures = model / "figures.json"
    for claimed, verdict in ((trained[1], 0), (trained[1] | {"training_loss": 9.0}, 1)):
        figures.write_text(json.dumps(claimed), encoding="utf-8")
        assert main([str(recipe), "--out", str(model), "--again"]) == verdict
    assert "small.yaml: training_loss: 9.0 on the card" in capsys.readouterr().out
    assert [file.name for file in model.iterdir()] == ["figures.json"], "nothing was replaced"


def test_no_section_stands_twice_in_a_batch() -> None:
    examples = [(pack, pair) for pack in PACKS for pair in pairs(pack)]
    batches = batches_of(examples, 12, random.Random(0))
    assert sum(map(len, batches)) >= len(examples) - len(PACKS) * 30
    for batch in batches:
        passages = [passage for _, passage in batch]
        assert 1 < len(batch) <= 12
        assert len(set(passages)) == len(passages)


def test_every_pair_belongs_to_a_known_section() -> None:
    assert all(section_of(pack, pair.fact_id).text() == pair.passage for pack in PACKS for pair in pairs(pack))


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "embedding.yaml"
    path.write_text("kind: embedding\nvocabulary: 3000\nsize: 3\n", encoding="utf-8")
    with pytest.raises(ConfigurationInvalid, match=r"embedding\.yaml"):
        read_recipe(path, EmbeddingRecipe)


def test_the_shipped_model_is_the_one_its_card_describes() -> None:
    folder = settings().models_path / "embedding"
    figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    assert min(figures[f"{pack}_paraphrases"]["hit@3"] for pack in PACKS) >= 0.95
    assert SentenceTransformer(str(folder), device="cpu", local_files_only=True).encode("안녕").shape == (192,)
