"""The tiny XTTS v2 checkpoint: built by its recipe, loaded through the path of a real one."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from TTS.tts.configs.xtts_config import XttsConfig
from TTS.tts.layers.xtts import hifigan_decoder
from TTS.tts.models import xtts

from shared.errors import ConfigurationInvalid
from workers.engines.narrow_xtts import narrowed, read_sizes
from workers.training.voice import VoiceRecipe, train

RECIPE = VoiceRecipe(kind="voice", seed=3, layers=1, channels=32, heads=1, vocoder_channels=16)
TEXT = "안녕, 오늘은 뭐 했어?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("voice")
    train(RECIPE, out)
    return out


def load(folder: Path) -> xtts.Xtts:
    config = XttsConfig()
    config.load_json(str(folder / "config.json"))
    model = xtts.Xtts(config)
    with narrowed(read_sizes(folder)):
        model.load_checkpoint(config, checkpoint_dir=str(folder), eval=True)
    return model


def test_checkpoint_holds_the_files_of_a_real_one(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.pth", "vocab.json", "narrow.json"}
    assert (folder / "model.pth").stat().st_size < 5_000_000


def test_loaded_model_speaks_the_same_for_the_same_seed(folder: Path) -> None:
    model = load(folder)
    reference = torch.sin(torch.arange(6 * 22050) / 22.0)[None]
    latents = model.get_gpt_cond_latents(reference, 22050)
    speaker = model.get_speaker_embedding(reference, 22050)
    assert latents.shape == (1, 32, RECIPE.channels)
    assert speaker.shape == (1, 512, 1)
    waves = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        waves.append(torch.as_tensor(model.inference(TEXT, "ko", latents, speaker)["wav"]))
    assert torch.equal(waves[0], waves[1])
    assert not torch.equal(waves[0], waves[2])
    assert waves[0].isfinite().all() and waves[0].abs().max() > 0


def test_same_seed_builds_the_same_weights(folder: Path, tmp_path: Path) -> None:
    train(RECIPE, tmp_path)
    first, second = (torch.load(path / "model.pth", weights_only=True)["model"] for path in (folder, tmp_path))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_narrowing_ends_with_its_block_even_after_an_error(folder: Path) -> None:
    before = xtts.HifiDecoder, hifigan_decoder.ResNetSpeakerEncoder
    seen = []
    with suppress(KeyError), narrowed(read_sizes(folder)):
        seen.append(xtts.HifiDecoder)
        raise KeyError
    assert seen[0] is not before[0]
    assert (xtts.HifiDecoder, hifigan_decoder.ResNetSpeakerEncoder) == before


def test_a_real_checkpoint_is_left_alone(tmp_path: Path) -> None:
    assert read_sizes(tmp_path) is None
    before = xtts.HifiDecoder
    with narrowed(None):
        assert xtts.HifiDecoder is before


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"vocoder_channels": 32, "speaker_filters": [1]})])
def test_damaged_sizes_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "narrow.json").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationInvalid, match=r"narrow\.json"):
        read_sizes(tmp_path)
