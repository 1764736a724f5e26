"""What becomes of a finished training: an adapter is registered as a version, another model has a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel
from transformers import AutoConfig

from shared.contracts.training import TrainResult
from shared.errors import ConfigurationInvalid
from shared.settings import settings
from shared.versions import Evaluation, NotPromoted, Registry, Version, now
from workers.engines.adapters import BaseShape, check_files

from .card import recipe_hash
from .recipe import AdapterRecipe

Figures = dict[str, Any]


def check_served(recipe: AdapterRecipe) -> None:
    """Before hours are lost: llm workers take no rank above their setting. Raises `ConfigurationInvalid`."""
    most = settings().llm_max_lora_rank
    if recipe.lora.rank > most:
        raise ConfigurationInvalid(
            f"Rank {recipe.lora.rank} is above the {most} that llm workers serve (MAEARI_LLM_MAX_LORA_RANK).",
            field="lora.rank",
        )


def register(name: str, path: Path, recipe: AdapterRecipe, files: Path, figures: Figures) -> Version:
    """Keep the adapter in `files` as a version, after looking at it as an llm worker does. Raises `InvalidAdapter`."""
    base = settings().model(recipe.base_model)
    check_files(files, BaseShape.of(AutoConfig.from_pretrained(base)), settings().llm_max_lora_rank)
    return Registry.of(settings()).register(
        name,
        files,
        {
            "pack": recipe.pack,
            "recipe_name": path.stem,
            "recipe": recipe.model_dump(mode="json", exclude_none=True),
            "recipe_hash": recipe_hash(recipe),
            "data_hash": figures["data_hash"],
            "base_model": recipe.base_model,
            "base_fingerprint": figures["base_fingerprint"],
            "figures": figures,
            "at_least": dict(recipe.promotion.at_least),
            "at_most": dict(recipe.promotion.at_most),
            "evaluation": Evaluation(at=now(), source="training", figures=examined(figures["held_out"])),
        },
    )


def examined(held_out: Figures) -> dict[str, float]:
    """The figures of an examination that a promotion may ask for."""
    others = held_out.get("other_style_kept", {}).values()
    found = {name: value for name, value in held_out.items() if isinstance(value, float)}
    return found | ({"other_style_kept": max(others)} if others else {})


def result(path: Path, recipe: BaseModel, figures: Figures, version: Version | None, promote: bool) -> TrainResult:
    """What a training ends with; `promote`: serve the version at once, if it may be."""
    shortcomings: tuple[str, ...] = tuple(version.shortcomings()) if version else ()
    promoted = False
    if version is not None and promote and not shortcomings:
        base = Path(settings().model(settings().llm_model))
        try:
            Registry.of(settings()).promote(version.label, base if base.is_dir() else None)
            promoted = True
        except NotPromoted as error:
            shortcomings = (error.detail,)
    return TrainResult(
        recipe=path.stem,
        kind=str(getattr(recipe, "kind", "")),
        version=version.label if version else None,
        promoted=promoted,
        shortcomings=shortcomings,
        minutes=figures["minutes"],
        figures=figures,
    )
