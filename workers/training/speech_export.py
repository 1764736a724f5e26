"""From the trained Whisper to the folder that faster-whisper loads."""

from __future__ import annotations

import json
import tempfile
from itertools import product
from pathlib import Path

from ctranslate2.converters import TransformersConverter
from tokenizers import Tokenizer
from transformers import GenerationConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

from workers.engines.transcriber import DECODE_FILE, DecodeOptions

from .speech_tokens import END, LANGUAGES, NO_TIMESTAMPS, START

COPIED = ("tokenizer.json", "preprocessor_config.json")
"""Files that faster-whisper reads beside the converted weights."""


DECODING = DecodeOptions(
    languages=("ko",),
    window_s=8,
    join=False,
    min_silence_ms=300,
    speech_pad_ms=200,
    beam_size=5,
    max_new_tokens=60,
    hints=False,
)
"""What the models of this recipe are trained for: about a sentence in a window, no prompt before it."""


def export(whisper: WhisperForConditionalGeneration, tokenizer: Tokenizer, out: Path) -> None:
    """Write the model to `out` in CTranslate2's form with int8 weights."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(whisper, tokenizer, folder)
        converter = TransformersConverter(str(folder), copy_files=list(COPIED))
        converter.convert(str(out), quantization="int8", force=True)
    (out / DECODE_FILE).write_text(DECODING.model_dump_json(indent=2) + "\n", encoding="utf-8")


def save(whisper: WhisperForConditionalGeneration, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the model to `folder` as transformers does, with all that CTranslate2 asks of a Whisper."""
    whisper.generation_config = _generation(whisper, tokenizer)
    whisper.save_pretrained(folder)
    # With this key transformers derives the generation config anew on loading, and loses the languages' ids.
    path = folder / "generation_config.json"
    generation = json.loads(path.read_text(encoding="utf-8"))
    generation.pop("_from_model_config", None)
    path.write_text(json.dumps(generation), encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"))
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "unk_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(described), encoding="utf-8")
    WhisperFeatureExtractor(feature_size=whisper.config.num_mel_bins, chunk_length=30).save_pretrained(folder)


def _generation(whisper: WhisperForConditionalGeneration, tokenizer: Tokenizer) -> GenerationConfig:
    named, config = tokenizer.token_to_id, whisper.config
    last = config.decoder_layers - 1
    return GenerationConfig(
        suppress_tokens=[],
        begin_suppress_tokens=[named(END)],
        alignment_heads=[list(pair) for pair in product([last], range(config.decoder_attention_heads))],
        lang_to_id={f"<|{language}|>": named(f"<|{language}|>") for language in LANGUAGES},
        task_to_id={task: named(f"<|{task}|>") for task in ("translate", "transcribe")},
        no_timestamps_token_id=named(NO_TIMESTAMPS),
        is_multilingual=True,
        decoder_start_token_id=named(START),
        bos_token_id=named(END),
        eos_token_id=named(END),
        pad_token_id=named(END),
        max_length=config.max_target_positions,
    )
