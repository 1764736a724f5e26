"""Speech by XTTS v2 in a voice taken from recordings.

Licence: the published weights of XTTS v2 come under the Coqui Public Model License, which forbids commercial use. The
formant voice needs no weights; the tiny weights of the laptop profile were made by this project.

A sentence is generated in one go, not streamed: sentences are short, and streaming decodes all audio so far again for
each chunk (2.5 times the work). Cancellation still takes effect at the next audio token, through a stopping criterion.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from transformers import StoppingCriteria, StoppingCriteriaList
from TTS.tts.configs.xtts_config import XttsConfig
from TTS.tts.models.xtts import Xtts

from shared.contracts.base import EngineInfo
from shared.contracts.pack import NeuralVoice
from shared.errors import (
    ConfigurationInvalid,
    EngineDead,
    EngineFailed,
    JobCancelled,
    MaeariError,
    OutOfMemory,
    TextTooLong,
)
from shared.protocols import Stop
from shared.settings import settings
from shared.text import split
from workers.audio import SPEECH_RATE, Samples, resample

from .fingerprint import fingerprint
from .narrow_xtts import narrowed, read_sizes

log = logging.getLogger("maeari.voice")
# It writes the text of long sentences to the log.
logging.getLogger("TTS.tts.layers.xtts.tokenizer").setLevel(logging.ERROR)

_LATENTS_RATE = 22_050
_FILES = ("config.json", "model.pth", "vocab.json")
_one_at_a_time = threading.Lock()
"""Sampling draws from the process's only random generator; more speech at once needs more processes."""


@dataclass(frozen=True)
class Latents:
    """A voice as the model knows it; on the CPU."""

    gpt: torch.Tensor
    """(1, 32, width)."""
    speaker: torch.Tensor
    """(1, 512, 1)."""

    def to_bytes(self) -> bytes:
        """As a safetensors file."""
        return save({"gpt_cond_latent": self.gpt.contiguous(), "speaker_embedding": self.speaker.contiguous()})

    @classmethod
    def from_bytes(cls, data: bytes) -> Latents:
        """What `to_bytes` gave."""
        tensors = load(data)
        return cls(tensors["gpt_cond_latent"], tensors["speaker_embedding"])


class NeuralSynthesizer:
    """One XTTS v2 model. Threads may share it; it serves one call at a time."""

    def __init__(self, folder: Path, device: str) -> None:
        """Loads config.json, model.pth and vocab.json of `folder` onto `device`. Raises `ConfigurationInvalid`."""
        missing = [name for name in _FILES if not (folder / name).is_file()]
        if missing:
            raise ConfigurationInvalid(f"The voice model lacks {', '.join(missing)}.", field="tts_model")
        sizes = read_sizes(folder)
        if sizes is None:
            log.warning("loading XTTS v2 weights: their published licence (CPML) forbids commercial use")
        self.dead = threading.Event()
        """Set when the device has failed for good."""
        self.info = EngineInfo(name="neural", model=folder.name, version=fingerprint(folder), device=device)
        self._config = XttsConfig()
        self._config.load_json(str(folder / "config.json"))
        self._model: Any = Xtts(self._config)
        with narrowed(sizes):
            self._model.load_checkpoint(self._config, checkpoint_dir=str(folder), eval=True)
        self._model.to(device)

    def latents(self, reference: Samples, rate: int) -> Latents:
        """The voice of a recording."""
        config = self._config
        sound = torch.from_numpy(resample(reference, rate, _LATENTS_RATE))[None]
        with self._guarded():
            gpt = self._model.get_gpt_cond_latents(
                sound, _LATENTS_RATE, length=config.gpt_cond_len, chunk_length=config.gpt_cond_chunk_len
            )
            embedding = self._model.get_speaker_embedding(sound[:, : _LATENTS_RATE * 30], _LATENTS_RATE)
        return Latents(gpt.cpu().clone(), embedding.cpu().clone())

    def speak(
        self, text: str, language: str, voice: Latents, style: NeuralVoice, *, speed: float, seed: int, stop: Stop
    ) -> Samples:
        """`text` in `voice` at `SPEECH_RATE`; the same seed gives the same sound. Raises `TextTooLong`."""
        pieces = split(text, settings().tts_max_chars)
        spoken = [self._piece(piece, language, voice, style, speed, seed, stop) for piece in pieces]
        return np.concatenate(spoken)

    def _piece(
        self, text: str, language: str, voice: Latents, style: NeuralVoice, speed: float, seed: int, stop: Stop
    ) -> Samples:
        with self._guarded():
            if stop.is_set():
                raise JobCancelled
            torch.manual_seed(seed)
            result = self._model.inference(
                text,
                language,
                voice.gpt,
                voice.speaker,
                temperature=style.temperature,
                speed=speed * style.speed,
                stopping_criteria=StoppingCriteriaList([_Cancelled(stop)]),
            )
        samples: Samples = np.asarray(result["wav"], np.float32).reshape(-1)
        if not len(samples) or not np.isfinite(samples).all():
            raise EngineFailed("The voice model gave no sound.")
        return resample(samples, self._config.audio.output_sample_rate, SPEECH_RATE)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """One call at a time, with the library's errors as this project's."""
        with _one_at_a_time:
            try:
                yield
            except MaeariError:
                raise
            except torch.OutOfMemoryError as error:
                raise OutOfMemory from error
            except AssertionError as error:  # the library's way to refuse more than 400 text tokens
                raise TextTooLong("One sentence has too many tokens for the voice model.", field="text") from error
            except RuntimeError as error:
                if "CUDA error" in str(error):
                    self.dead.set()
                    raise EngineDead from error
                raise EngineFailed(f"({type(error).__name__})") from error


class _Cancelled(StoppingCriteria):
    """Ends generation from within, at the next token."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def __call__(self, input_ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        if self._stop.is_set():
            raise JobCancelled
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)
