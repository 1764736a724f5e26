"""LoRA on a CPU in two matrix products for all rows of a batch.

vLLM copies, for every row (a token), its adapter's weights and multiplies row by row: on a small model two thirds of a
decoding step, and nearly all of reading a long prompt. Here rows that all ask for one adapter are multiplied with that
one; in a mixed batch every row is multiplied with the adapters of all slots, which are few and of low rank, and what
belongs to others is set to zero (y += x Aᵀ Bᵀ; Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models").

It also closes a hole. vLLM looks up a row's adapter by its slot; a row without one has slot -1, which Python reads as
the last slot, and as soon as that one is filled, base requests in a mixed batch are answered with its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch.nn.functional import linear
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU


class Rows:
    """Which adapters the rows of a step ask for."""

    def __init__(self, slots: torch.Tensor, count: int, rank: int) -> None:
        """`slots`: of each row, -1 for none. `count`: slots that there are."""
        self._slots, self._count, self._rank = slots, count, rank
        self._found: list[int] = slots.unique().tolist()

    @property
    def plain(self) -> bool:
        """No row asks for an adapter."""
        return self._found == [-1]

    @property
    def sole(self) -> int | None:
        """The slot that all rows ask for."""
        return self._found[0] if len(self._found) == 1 else None

    @cached_property
    def foreign(self) -> torch.Tensor:
        """(rows, slots * rank): what in the product with all adapters is not the row's own."""
        others = self._slots.unsqueeze(1) != torch.arange(self._count, device=self._slots.device)
        return others.repeat_interleave(self._rank, dim=1)


class AdaptersOnCpu(PunicaWrapperCPU):
    """What vLLM's linear layers and its output layer call to add their adapters' share."""

    def update_metadata(self, mapping: Any, lora_index_to_id: Any, max_loras: int, *args: Any, **options: Any) -> None:
        """As vLLM's; called when the rows of a step are not those of the last."""
        super().update_metadata(mapping, lora_index_to_id, max_loras, *args, **options)
        self._known: dict[str, Rows] = {}

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: Sequence[torch.Tensor],
        lora_b_stacked: Sequence[torch.Tensor],
        scale: float,
        output_slices: Sequence[int],
        **_: Any,
    ) -> None:
        """Add the share of `x` (rows, width) to `y`. A is (slots, 1, rank, width), B (slots, 1, new width, rank)."""
        rows = self._rows("token_lora_indices", lora_a_stacked[0])
        start = 0
        for a, b, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
            _add(y[:, start : start + width], x, a, b, scale, rows)
            start += width

    def add_lora_logits(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        scale: float,
        **_: Any,
    ) -> None:
        """The same for the rows of which a next token is wanted."""
        width = min(lora_b_stacked.shape[-2], y.shape[-1])  # vLLM pads the two vocabularies differently
        columns = y.view(-1, y.shape[-1])[:, :width]
        rows = self._rows("sampler_indices", lora_a_stacked)
        _add(columns, x.view(-1, x.shape[-1]), lora_a_stacked, lora_b_stacked[..., :width, :], scale, rows)

    def _rows(self, which: str, a: torch.Tensor) -> Rows:
        if which not in self._known:
            self._known[which] = Rows(getattr(self, which), a.shape[0], a.shape[-2])
        return self._known[which]


def _add(y: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scale: float, rows: Rows) -> None:
    if rows.plain:
        return
    count, rank, width = a.shape[0], a.shape[-2], b.shape[-2]
    if rows.sole is not None:
        low = linear(x, a[rows.sole].view(rank, -1))
        high = b[rows.sole].view(width, rank).t()
    else:
        low = linear(x, a.reshape(count * rank, -1)).masked_fill_(rows.foreign, 0)
        high = b.reshape(count, width, rank).transpose(1, 2).reshape(count * rank, width)
    y.addmm_(low.to(y.dtype), high.to(y.dtype), alpha=scale)
