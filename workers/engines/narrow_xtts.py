"""Narrowed sizes of XTTS v2's vocoder and speaker encoder, for the tiny checkpoint of the laptop profile.

Coqui's XTTS config has no field for these two sizes. A checkpoint folder that needs others carries `narrow.json`; a
real checkpoint has no such file and is built and loaded untouched.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from TTS.tts.layers.xtts import hifigan_decoder
from TTS.tts.models import xtts

from shared.errors import ConfigurationInvalid

FILE = "narrow.json"
"""Name of the sizes' file beside `config.json`."""

_lock = threading.Lock()
"""The classes are swapped in their modules, so that only one model may be built narrowed at a time."""


@dataclass(frozen=True)
class NarrowSizes:
    """Channel counts that replace the ones built into the two classes."""

    vocoder_channels: int
    """Channels after the vocoder's first convolution; halved by each of its four upsampling stages."""
    speaker_filters: tuple[int, int, int, int]
    """Filters of the speaker encoder's four residual stages."""


def read_sizes(folder: Path) -> NarrowSizes | None:
    """The sizes of the checkpoint in `folder`, or None for a checkpoint of full size. Raises `ConfigurationInvalid`."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        first, second, third, fourth = raw["speaker_filters"]
        return NarrowSizes(int(raw["vocoder_channels"]), (int(first), int(second), int(third), int(fourth)))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationInvalid(f"{path.name} does not hold the two sizes.", field=path.name) from error


def write_sizes(folder: Path, sizes: NarrowSizes) -> None:
    """Keep `sizes` beside the checkpoint in `folder`."""
    (folder / FILE).write_text(json.dumps(asdict(sizes), indent=2) + "\n", encoding="utf-8")


@contextmanager
def narrowed(sizes: NarrowSizes | None) -> Iterator[None]:
    """Build XTTS models of `sizes` inside the block; does nothing for None.

    Usage: `with narrowed(read_sizes(folder)): model.load_checkpoint(config, checkpoint_dir=folder)`.
    """
    if sizes is None:
        yield
        return
    with _lock:
        vocoder, speaker = xtts.HifiDecoder, hifigan_decoder.ResNetSpeakerEncoder
        xtts.HifiDecoder = functools.partial(vocoder, upsample_initial_channel_decoder=sizes.vocoder_channels)
        hifigan_decoder.ResNetSpeakerEncoder = functools.partial(speaker, num_filters=list(sizes.speaker_filters))
        try:
            yield
        finally:
            xtts.HifiDecoder, hifigan_decoder.ResNetSpeakerEncoder = vocoder, speaker
