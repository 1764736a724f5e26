"""Adapters on a CPU: against LoRA's formula, row by row."""

from __future__ import annotations

import warnings

import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vLLM's import is not ours to mend
    from vllm.lora.layers import LoRAMapping

    from workers.engines.cpu_adapters import AdaptersOnCpu

SLOTS, RANK, WIDTH, SLICES = 4, 3, 10, (6, 8)
BASE = 0
MIXED = [BASE, 7, 9, 7, BASE, 8, 9]


def _wrapper(asked: list[int], loaded: list[int | None]) -> AdaptersOnCpu:
    wrapper = AdaptersOnCpu(64, 16, device="cpu")
    mapping = LoRAMapping(tuple(asked), tuple(asked), is_prefill=True)
    wrapper.update_metadata(mapping, loaded, SLOTS, 100)
    return wrapper


def _weights(width: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(SLOTS, 1, RANK, WIDTH).to(dtype), torch.randn(SLOTS, 1, width, RANK).to(dtype)


def _by_formula(
    x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, asked: list[int], loaded: list[int | None]
) -> torch.Tensor:
    rows = [
        torch.zeros(b.shape[2]) if name == BASE else x[row].float() @ a[slot, 0].float().T @ b[slot, 0].float().T
        for row, name in enumerate(asked)
        for slot in [loaded.index(name) if name else -1]
    ]
    return torch.stack(rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("asked", [MIXED, [7] * 5, [BASE] * 5, [9], [BASE, 8]], ids=str)
def test_every_row_gets_its_own_adapter_and_a_base_row_none(asked: list[int], dtype: torch.dtype) -> None:
    torch.manual_seed(len(asked))
    loaded: list[int | None] = [8, 9, None, 7]  # the last slot is taken: the one that -1 would mean
    wrapper = _wrapper(asked, loaded)
    x = torch.randn(len(asked), WIDTH).to(dtype)
    pairs = [_weights(width, dtype) for width in SLICES]
    y = torch.ones(len(asked), sum(SLICES), dtype=dtype)

    wrapper.add_lora_linear(y, x, [a for a, _ in pairs], [b for _, b in pairs], 0.5, SLICES)

    share = torch.cat([_by_formula(x, a, b, asked, loaded) for a, b in pairs], dim=1)
    tolerance = 1e-5 if dtype is torch.float32 else 0.2
    torch.testing.assert_close(y.float(), 1 + 0.5 * share, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("asked", [MIXED, [7] * 5, [BASE] * 5], ids=str)
def test_the_output_layer_may_be_padded(asked: list[int]) -> None:
    torch.manual_seed(1)
    loaded: list[int | None] = [8, 9, None, 7]
    x, (a, b) = torch.randn(len(asked), WIDTH), _weights(12, torch.float32)
    y = torch.zeros(len(asked), 11)

    _wrapper(asked, loaded).add_lora_logits(y, x, a, b, 1.0)

    torch.testing.assert_close(y, _by_formula(x, a, b, asked, loaded)[:, :11], atol=1e-5, rtol=1e-5)


def test_the_next_step_may_ask_for_others() -> None:
    loaded: list[int | None] = [8, 9, None, 7]
    wrapper = _wrapper([7, 7], loaded)
    x, (a, b) = torch.randn(2, WIDTH), _weights(6, torch.float32)
    wrapper.add_lora_linear(torch.zeros(2, 6), x, [a], [b], 1.0, [6])
    wrapper.update_metadata(LoRAMapping((8, 0), (8, 0), is_prefill=True), loaded, SLOTS, 100)
    y = torch.zeros(2, 6)

    wrapper.add_lora_linear(y, x, [a], [b], 1.0, [6])

    torch.testing.assert_close(y, _by_formula(x, a, b, [8, 0], loaded), atol=1e-5, rtol=1e-5)
