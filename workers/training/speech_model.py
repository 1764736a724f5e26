"""The small Whisper while it learns: short windows that behave like the 30 s windows of the product.

faster-whisper pads every window to 30 s. Training on such windows costs ten times the work, and training on short ones
makes a model that the padding confuses. Here the padding after a short window is drawn: a few of its positions stand
for all of them, each weighted in the attention by the number that it stands for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from faster_whisper.feature_extractor import FeatureExtractor
from torch import Tensor, nn
from torch.nn import functional
from transformers import WhisperConfig, WhisperForConditionalGeneration

from .speech_tokens import TIMESTAMPS

MELS = 80
"""Mel bands of the features."""
POSITIONS = 1500
"""Encoder positions of a 30 s window."""

_extractor = FeatureExtractor(feature_size=MELS)
_filters = torch.from_numpy(_extractor.mel_filters)
_window = torch.hann_window(_extractor.n_fft)


def log_mel(wave: Tensor) -> Tensor:
    """The features of a waveform at 16 kHz, (MELS, frames of 10 ms), equal to those of faster-whisper."""
    padded = functional.pad(wave, (0, _extractor.hop_length))
    spectrum = torch.stft(
        padded, _extractor.n_fft, _extractor.hop_length, window=_window, center=True, return_complex=True
    )
    power = spectrum[:, :-1].abs() ** 2
    logarithm = torch.log10((_filters @ power).clamp(min=1e-10))
    return (torch.maximum(logarithm, logarithm.max() - 8.0) + 4.0) / 4.0


def pad_features(features: Sequence[Tensor]) -> Tensor:
    """One batch (n, MELS, frames); the number of frames is even and leaves some padding after the longest."""
    frames = max(item.shape[1] for item in features) // 2 * 2 + 8
    return torch.stack([functional.pad(item, (0, frames - item.shape[1])) for item in features])


def whisper_config(
    vocabulary: int, end: int, start: int, *, width: int, layers: int, heads: int, dropout: float
) -> WhisperConfig:
    """A Whisper of `layers` encoder and decoder blocks of `width`; `end` and `start` are token ids."""
    return WhisperConfig(
        vocab_size=vocabulary,
        num_mel_bins=MELS,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        d_model=width,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        max_source_positions=POSITIONS,
        max_target_positions=448,
        dropout=dropout,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        suppress_tokens=[],
        begin_suppress_tokens=[end],
    )


class SpeechModel(nn.Module):
    """A Whisper with an auxiliary head that names the sounding letters, for the CTC loss.

    The timestamps share one row of the embedding while they are not trained; `spread_timestamps` gives each its copy.
    """

    def __init__(self, config: WhisperConfig, letters: int, padding: int) -> None:
        """`letters`: classes of the auxiliary head; `padding`: positions drawn from the padding of a window."""
        super().__init__()
        self.whisper = WhisperForConditionalGeneration(config)
        self.letters = nn.Linear(config.d_model, letters)
        self.padding = padding
        self._classes = config.vocab_size - TIMESTAMPS + 1
        self._shared = torch.zeros(self._classes)
        self._shared[-1] = math.log(TIMESTAMPS)

    def forward(self, features: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the next tokens (n, length, classes) and of the letters (n, positions, letters).

        `features` as `pad_features` gives them; `tokens` (n, length) are the tokens so far.
        """
        encoded, bias = self._encode(features)
        heard = encoded[:, : features.shape[2] // 2]
        return self._decode(tokens, encoded, bias), self.letters(heard)

    def _encode(self, features: Tensor) -> tuple[Tensor, Tensor]:
        encoder = self.whisper.model.encoder
        hidden = self._convolve(features)
        used = hidden.shape[1]
        drawn = used + torch.randperm(POSITIONS - used)[: self.padding]
        blank = self._convolve(features.new_zeros(1, MELS, 8))[:, 1:2]
        hidden = torch.cat([hidden, blank.expand(len(hidden), len(drawn), -1)], dim=1)
        positions = torch.cat([torch.arange(used), drawn])
        hidden = functional.dropout(hidden + encoder.embed_positions(positions), encoder.dropout, self.training)
        bias = hidden.new_zeros(1, 1, 1, len(positions))
        bias[..., used:] = math.log((POSITIONS - used) / len(drawn))
        for layer in encoder.layers:
            hidden = layer(hidden, bias)
        return encoder.layer_norm(hidden), bias

    def _convolve(self, features: Tensor) -> Tensor:
        encoder = self.whisper.model.encoder
        hidden = functional.gelu(encoder.conv1(features))
        return functional.gelu(encoder.conv2(hidden)).transpose(1, 2)

    def _decode(self, tokens: Tensor, encoded: Tensor, bias: Tensor) -> Tensor:
        decoder = self.whisper.model.decoder
        hidden = decoder.embed_tokens(tokens) + decoder.embed_positions.weight[: tokens.shape[1]]
        hidden = functional.dropout(hidden, decoder.dropout, self.training)
        for layer in decoder.layers:
            hidden = layer(hidden, None, encoded, encoder_attention_mask=bias, use_cache=False)
        weight = decoder.embed_tokens.weight[: self._classes]
        logits: Tensor = functional.linear(decoder.layer_norm(hidden), weight) + self._shared
        return logits

    @torch.no_grad()
    def spread_timestamps(self) -> WhisperForConditionalGeneration:
        """The Whisper with every timestamp's row set to the shared one."""
        weight = self.whisper.model.decoder.embed_tokens.weight
        weight[self._classes :] = weight[self._classes - 1]
        return self.whisper
