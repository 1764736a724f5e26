"""A tiny XTTS v2 checkpoint with random weights, in the layout of a real one.

It takes the synthesizer's code path through loading, conditioning latents, inference and streaming; what it says is
noise. Speech that people understand comes from the formant synthesizer, or from real weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from TTS.tts.configs.xtts_config import XttsConfig
from TTS.tts.layers.xtts.tokenizer import VoiceBpeTokenizer
from TTS.tts.models.xtts import Xtts, XttsArgs, XttsAudioConfig

from workers.engines.narrow_xtts import NarrowSizes, narrowed, write_sizes

from .recipe import Part

LANGUAGES = ("en", "es", "fr", "de", "it", "pt", "pl", "tr", "ru", "nl", "cs", "ar", "zh-cn", "hu", "ko", "ja", "hi")
"""The languages of XTTS v2, in the order of its vocabulary."""

UNKNOWN = "[UNK]"
"""The token of what the vocabulary lacks."""

SAMPLES = (
    "annyeonghaseyo oneureun nalssiga cham joayo eomma saranghaeyo gomawo geurae majayo",
    "abcdefghijklmnopqrstuvwxyz 0123456789 . , ! ? ' -",
)
"""Romanised text, which is what XTTS makes of Korean, for the tokenizer."""


class VoiceRecipe(Part):
    """A tiny XTTS v2 with random weights: the layout and code path of a real one, not its speech."""

    kind: Literal["voice"]
    seed: int = 0
    vocabulary: int = Field(default=160, ge=64, le=6681)
    """Text tokens."""
    layers: int = Field(default=2, ge=1)
    """Blocks of the GPT."""
    channels: int = Field(default=64, ge=16)
    """Width of the GPT and of the latents."""
    heads: int = Field(default=2, ge=1)
    """Attention heads of the GPT."""
    audio_tokens: int = Field(default=80, ge=16)
    """Longest synthesis, in audio tokens of 1024 samples at 22.05 kHz."""
    text_tokens: int = Field(default=402, ge=64)
    """Longest text, in tokens."""
    prompt_tokens: int = Field(default=70, ge=16)
    """Longest conditioning, in tokens."""
    vocoder_channels: int = Field(default=32, ge=16)
    """Channels after the vocoder's first convolution."""
    speaker_filters: tuple[int, int, int, int] = (8, 8, 16, 16)
    """Filters of the speaker encoder's residual stages."""


def train(recipe: VoiceRecipe, out: Path) -> dict[str, Any]:
    """Write `config.json`, `model.pth`, `vocab.json` and `narrow.json` to `out`; returns the sizes as figures."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    _tokenizer(recipe.vocabulary).save(str(out / "vocab.json"))
    sizes = NarrowSizes(recipe.vocoder_channels, recipe.speaker_filters)
    config = XttsConfig(model_args=_arguments(recipe), audio=XttsAudioConfig())
    with narrowed(sizes):
        model = Xtts(config)
        model.tokenizer = VoiceBpeTokenizer(out / "vocab.json")
        model.init_models()
    torch.save({"model": model.state_dict()}, out / "model.pth")
    config.save_json(str(out / "config.json"))
    write_sizes(out, sizes)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "bytes": (out / "model.pth").stat().st_size,
        "sample_rate": config.audio.output_sample_rate,
    }


def _arguments(recipe: VoiceRecipe) -> XttsArgs:
    return XttsArgs(
        gpt_layers=recipe.layers,
        gpt_n_model_channels=recipe.channels,
        gpt_n_heads=recipe.heads,
        gpt_max_audio_tokens=recipe.audio_tokens,
        gpt_max_text_tokens=recipe.text_tokens,
        gpt_max_prompt_tokens=recipe.prompt_tokens,
        gpt_num_audio_tokens=1026,
        gpt_start_audio_token=1024,
        gpt_stop_audio_token=1025,
        gpt_use_perceiver_resampler=True,
        gpt_code_stride_len=1024,
        decoder_input_dim=recipe.channels,
        d_vector_dim=512,
        tokenizer_file="vocab.json",
    )


def _tokenizer(vocabulary: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["[STOP]", UNKNOWN, "[SPACE]", *(f"[{language}]" for language in LANGUAGES), "[START]"]
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(SAMPLES, trainer)
    return tokenizer
