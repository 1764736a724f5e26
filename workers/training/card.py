"""The model card: what a model is, what it was made from, how good it is, how to make it again."""

from __future__ import annotations

import hashlib
import json
import textwrap
from pathlib import Path
from typing import Any

from pydantic import BaseModel

LICENCE = "Apache-2.0"


def write_card(folder: Path, recipe_file: Path, recipe: BaseModel, figures: dict[str, Any]) -> None:
    """Write `README.md` and `figures.json` for the model in `folder`; sizes are taken from the files that lie there."""
    (folder / "figures.json").write_text(_json(figures), encoding="utf-8")
    (folder / "README.md").write_text(_card(folder, recipe_file, recipe, figures), encoding="utf-8")


def recipe_hash(recipe: BaseModel) -> str:
    """Twelve hexadecimal digits that change with any key of the recipe that changes the model."""
    return hashlib.sha256(recipe.model_dump_json(exclude={"promotion"}).encode()).hexdigest()[:12]


def _card(folder: Path, recipe_file: Path, recipe: BaseModel, figures: dict[str, Any]) -> str:
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    kind = getattr(recipe, "kind", "model")
    doc = " ".join((type(recipe).__doc__ or "").split())
    return textwrap.dedent("""\
        ---
        license: {licence}
        language: ko
        tags: [maeari, {kind}]
        ---

        # {name}

        {doc} Made by this project's own recipe from data written for this project; no third-party weights or texts.

        - Recipe: `{file}`, hash `{hash}`, seed {seed}
        - Size: {size:.2f} MB in all
        - Licence: {licence}
        - Made with: `python -m workers.training {name}`

        ## Recipe

        ```json
        {recipe}
        ```

        ## Figures

        ```json
        {figures}
        ```
        """).format(
        licence=LICENCE,
        kind=kind,
        name=recipe_file.stem,
        doc=doc,
        file=f"workers/training/recipes/{recipe_file.name}",
        hash=recipe_hash(recipe),
        seed=getattr(recipe, "seed", 0),
        size=size / 1e6,
        recipe=_json(recipe.model_dump(mode="json", exclude_none=True)),
        figures=_json(figures),
    )


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, indent=2)
