"""Recipes: what is trained, on what, for how long. Read strictly, before hours are lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.contracts.base import first_problem
from shared.errors import ConfigurationInvalid, UnknownRecipe
from shared.settings import settings

FOLDER = Path(__file__).resolve().parent / "recipes"
"""The recipes that ship with the code."""

DATA_FOLDER: ContextVar[Path] = ContextVar("data_folder", default=Path())
"""Where relative data files of the recipe that is being run lie: beside the recipe."""

R = TypeVar("R", bound=BaseModel)

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class Part(BaseModel):
    """A piece of a recipe: frozen, and no key passes that nothing reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(Part):
    """How long and how fast; the learning rate rises linearly, then falls along a cosine."""

    batch: Positive = 32
    """Examples in one forward pass."""
    accumulation: Positive = 1
    """Forward passes per optimizer step."""
    steps: Positive | None = None
    """Optimizer steps; or `epochs`."""
    epochs: Annotated[float, Field(gt=0.0)] | None = None
    """Passes over the training examples; or `steps`."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """`muon`: for the block matrices of a model trained from nothing."""
    learning_rate: Annotated[float, Field(gt=0.0, le=0.1)]
    """Highest learning rate."""
    warmup: Share = 0.03
    """Share of the steps over which the learning rate rises."""
    floor: Share = 0.02
    """Share of the highest learning rate that is left at the end."""
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    clip: Annotated[float, Field(gt=0.0)] = 1.0
    """Longest gradient."""
    validate_every: Positive = 250
    """Optimizer steps between two looks at the validation split; a checkpoint follows each."""
    patience: Positive | None = None
    """Validations without a better loss after which training stops early; empty: never."""
    max_minutes: Annotated[float, Field(gt=0.0)] | None = None
    """Guard: the cosine is hurried so that training ends by then. On a CPU, minutes of processor time."""

    @model_validator(mode="after")
    def _one_length(self) -> Schedule:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        return self


class Source(Part):
    """Dialogues to train on: the project's own generator or a JSONL file."""

    style: str | None = None
    """Speech style of generated dialogues: `neutral` or a pack, or `lookup` for chance pairs; or `file`."""
    file: Path | None = None
    """JSONL, one `{"messages": [{"role", "content"}, ...]}` a line, the answer last; beside the recipe; or `style`."""
    count: Positive | None = None
    """Generated dialogues; of a file, empty means all."""
    brief: bool = False
    """Shorten the system message to two lines of context, the answering one among them: more answers per second."""
    abroad: bool = False
    """The style under other packs' personas."""
    alike: Share = 0.0
    """Share of the questions that come with the sections most like them in letters, as a search's near misses are."""

    @model_validator(mode="after")
    def _one_origin(self) -> Source:
        if (self.style is None) == (self.file is None):
            raise ValueError("give either style or file")
        if self.style is not None and self.count is None:
            raise ValueError("generated dialogues need a count")
        return self

    @property
    def path(self) -> Path | None:
        """Where the file lies."""
        return None if self.file is None else DATA_FOLDER.get() / self.file


class Data(Part):
    """The training examples and what is split off them."""

    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    validation: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.02
    """Share of the examples that is never trained on and decides the best checkpoint."""
    max_tokens: Annotated[int, Field(ge=32)] = 512
    """Longer examples are left out, and counted."""


class Shape(Part):
    """Size of a Llama that is trained from nothing."""

    vocabulary: Annotated[int, Field(ge=384)]
    """Tokens, of which 256 are bytes."""
    width: Annotated[int, Field(ge=32)]
    depth: Positive
    """Transformer blocks."""
    heads: Positive
    feed_forward: Annotated[int, Field(ge=32)]
    """Inner width of a block's second half."""
    positions: Annotated[int, Field(ge=128)] = 1024
    """Longest prompt and reply together, in tokens."""

    @model_validator(mode="after")
    def _whole_heads(self) -> Shape:
        if self.width % self.heads or self.width // self.heads not in (32, 64, 128):
            raise ValueError("width / heads must be 32, 64 or 128, the head sizes that vLLM runs on a CPU")
        return self


class Examination(Part):
    """Held-out cases that a finished model answers; the figures go into its card."""

    cases: Positive = 100
    """Cases per style."""
    max_new_tokens: Positive = 96


class Lora(Part):
    """A low-rank adapter, in peft's terms."""

    rank: Literal[8, 16, 32, 64, 128, 256]
    """The ranks that vLLM serves."""
    alpha: Positive
    dropout: Share = 0.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """Linear layers that get an adapter: those vLLM serves."""


FigureName = Literal[
    "fact_stated",
    "invented_stated",
    "recall_stated",
    "statement_stated",
    "unknown_admitted",
    "style_kept",
    "other_style_kept",
]
"""A figure of an examination; of `other_style_kept` the highest counts."""


class Promotion(Part):
    """What an adapter must reach before it may be served."""

    at_least: Mapping[FigureName, Annotated[float, Field(ge=0.0, le=1.0)]] = {
        "fact_stated": 0.9,
        "recall_stated": 0.8,
        "style_kept": 0.95,
    }
    at_most: Mapping[FigureName, Annotated[float, Field(ge=0.0, le=1.0)]] = {"other_style_kept": 0.3}


class Stage(Part):
    """One part of a training: the next goes on with its weights."""

    data: Data
    schedule: Schedule


class LanguageRecipe(Part):
    """A small language model with its tokenizer, from nothing."""

    kind: Literal["language"]
    seed: int = 0
    shape: Shape
    tokenizer: Annotated[tuple[Source, ...], Field(min_length=1)]
    """What the tokenizer is made from."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    examination: Examination = Examination()


class AdapterRecipe(Part):
    """A LoRA adapter over a base model; 4-bit weights make it QLoRA."""

    kind: Literal["adapter"]
    seed: int = 0
    base_model: str
    """Folder under the models' path, absolute folder or hub name."""
    pack: str
    """The pack whose speech style the adapter gives; examined against the other packs' rules."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    quantization: Literal["none", "4bit"] = "none"
    """`4bit`: bitsandbytes NF4 with double quantization, on CUDA alone."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of the computation; without AVX-512 a CPU is fastest in float32."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    lora: Lora
    data: Data
    schedule: Schedule
    examination: Examination = Examination()
    promotion: Promotion = Promotion()

    @model_validator(mode="after")
    def _quantized_on_cuda(self) -> AdapterRecipe:
        if self.quantization == "4bit" and self.device == "cpu":
            raise ValueError("quantization 4bit needs device cuda or auto")
        return self


def recipe_path(name: str) -> Path:
    """The file of a shipped recipe, or `name` itself where it is a file. Raises `ConfigurationInvalid`."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise ConfigurationInvalid(f"There is no recipe {name}. Known: {known}.", field="recipe")
    return path


def recipe_folders() -> tuple[Path, ...]:
    """Folders whose recipes a job may name: the shipped ones and those of the settings."""
    return (FOLDER, *(folder.expanduser() for folder in settings().recipe_paths))


def named_recipe(name: str) -> Path:
    """The recipe that a job calls `name`: no path, and a file of a permitted folder, links included.

    Raises `UnknownRecipe`.
    """
    for folder in recipe_folders():
        file = folder / f"{name}.yaml"
        if "/" not in name and file.is_file() and file.resolve().is_relative_to(folder.resolve()):
            return file
    known = sorted({file.stem for folder in recipe_folders() for file in folder.glob("*.yaml")})
    raise UnknownRecipe(f"Known recipes: {', '.join(known)}.", field="recipe")


def check_data_paths(path: Path, recipe: BaseModel) -> None:
    """A job's recipe reads data of permitted folders alone. Raises `ConfigurationInvalid` naming file and field."""
    allowed = [folder.expanduser().resolve() for folder in (*recipe_folders(), *settings().data_paths)]
    for source in _sources(recipe):
        if source.file is not None:
            file = (path.parent / source.file).resolve()
            if not any(file.is_relative_to(folder) for folder in allowed):
                raise invalid(path, "data.sources.file", f"{source.file} lies outside the folders for data")


def _sources(recipe: BaseModel) -> Iterator[Source]:
    parts = [getattr(recipe, "data", None), *(stage.data for stage in getattr(recipe, "stages", ()))]
    for data in parts:
        yield from data.sources if data is not None else ()


def read_mapping(path: Path) -> dict[str, Any]:
    """The keys of a recipe file, unchecked. Raises `ConfigurationInvalid` naming file and line."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise invalid(path, "(file)", f"cannot be read ({type(error).__name__})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise invalid(path, f"line {mark.line + 1}" if mark else "(file)", "is not YAML") from error
    if not isinstance(content, dict):
        raise invalid(path, "(file)", "must be a mapping")
    return content


def read_recipe(path: Path, model: type[R]) -> R:
    """The recipe in `path`. Raises `ConfigurationInvalid` naming file and field."""
    try:
        return model.model_validate(read_mapping(path))
    except ValidationError as error:
        field, problem = first_problem(error.errors())
        raise invalid(path, field, problem) from error


def invalid(path: Path, field: str, problem: str) -> ConfigurationInvalid:
    """The error for a bad `field` of the file `path`."""
    return ConfigurationInvalid(f"{path.name}, {field}: {problem}", field=f"{path.name}:{field}")
