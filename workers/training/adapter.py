"""A LoRA adapter over a base model. The same code trains the laptop's adapters and the 4-bit runs over 8B bases."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedTokenizerBase

from shared.errors import ConfigurationInvalid
from shared.packs import load_pack
from shared.settings import settings
from shared.versions import fingerprint

from .card import recipe_hash
from .corpus import PACKS
from .dialogue import Dialogue, hash_of, load_dialogues, split_examples
from .files import alone
from .loop import Loop
from .memory import check_room
from .progress import say, watch
from .recipe import AdapterRecipe, Lora
from .scoring import examine


def train(recipe: AdapterRecipe, out: Path) -> dict[str, Any]:
    """Write the adapter in peft's layout (bfloat16 safetensors) into `out`; returns the figures.

    What is missing is said before anything is trained: pack, data, a device, memory, room on the disk.
    """
    load_pack(recipe.pack)
    device = choose_device(recipe)
    name = settings().model(recipe.base_model)
    base = fingerprint(Path(name)) if Path(name).is_dir() else ""
    dialogues = list(load_dialogues(recipe.data.sources, recipe.seed))
    made_of = {"data_hash": hash_of(dialogues), "base_fingerprint": base}
    # Other data or another base is another run: its checkpoint is no place to go on from.
    run = hashlib.sha256("/".join([recipe_hash(recipe), *made_of.values()]).encode()).hexdigest()[:12]
    folder = settings().home / "runs" / f"adapter-{recipe.pack}-{run}"
    check_room(recipe, device, folder)
    with alone(folder):
        return _train(recipe, dialogues, out, device, folder) | made_of


def _train(
    recipe: AdapterRecipe, dialogues: Sequence[Dialogue], out: Path, device: str, folder: Path
) -> dict[str, Any]:
    torch.manual_seed(recipe.seed)
    name = settings().model(recipe.base_model)
    tokenizer = load_tokenizer(recipe, name)
    split = split_examples(dialogues, tokenizer, recipe.data, recipe.seed)
    say(f"{len(split.training)} examples, {len(split.validation)} to validate, {split.left_out} too long")
    model = wrap(load_base(recipe, name, device), recipe.lora, recipe.base_model)
    watch.stage = f"adapter {recipe.pack}"
    loop = Loop(
        model,
        recipe.schedule,
        split.training,
        split.validation,
        padding=padding_of(tokenizer),
        seed=recipe.seed,
        folder=folder,
        precision=getattr(torch, recipe.precision),
    )
    figures = loop.run()
    save(model, out)
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    figures |= {"parameters": trained, "examples": len(split.training)}
    # A pack without a corpus has no held-out dialogues: `maeari adapter evaluate --cases` measures its versions.
    figures["held_out"] = examine(model, tokenizer, recipe.pack, recipe.examination) if recipe.pack in PACKS else {}
    watch.at_end.append(loop.forget)
    return figures


def choose_device(recipe: AdapterRecipe) -> str:
    """`cuda` or `cpu`. Raises `ConfigurationInvalid` where the recipe asks for what this machine has not."""
    cuda = torch.cuda.is_available()
    device = recipe.device if recipe.device != "auto" else "cuda" if cuda else "cpu"
    if device == "cuda" and not cuda:
        raise ConfigurationInvalid("There is no CUDA device on this machine.", field="device")
    if device == "cpu" and recipe.quantization == "4bit":
        raise ConfigurationInvalid("4-bit weights need a CUDA device.", field="quantization")
    return device


def load_tokenizer(recipe: AdapterRecipe, name: str) -> PreTrainedTokenizerBase:
    """The base's tokenizer. Raises `ConfigurationInvalid` where there is none."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        problem = f"The base model {recipe.base_model} cannot be loaded."
        raise ConfigurationInvalid(problem, field="base_model") from error
    return tokenizer


def load_base(recipe: AdapterRecipe, name: str, device: str) -> torch.nn.Module:
    """The frozen base model; 4-bit where the recipe says so. Raises `ConfigurationInvalid` where there is none."""
    precision = getattr(torch, recipe.precision)
    options: dict[str, Any] = {"dtype": precision, "device_map": device}
    if recipe.quantization == "4bit":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=precision,
        )
    try:
        base = AutoModelForCausalLM.from_pretrained(name, **options)
    except (OSError, ValueError) as error:
        problem = f"The base model {recipe.base_model} cannot be loaded."
        raise ConfigurationInvalid(problem, field="base_model") from error
    # Not peft's prepare_model_for_kbit_training: it makes embeddings float32, 2 GiB more on an 8B base.
    if recipe.checkpointing:
        base.gradient_checkpointing_enable()
        base.enable_input_require_grads()
    return base


def wrap(base: torch.nn.Module, lora: Lora, base_name: str) -> PeftModel:
    """`base` with trainable low-rank pairs beside the layers that `lora` names.

    Raises `ConfigurationInvalid` where a target is no layer of the base, or the rank is above a layer's width.
    """
    layers = [m for n, m in base.named_modules() if n.rsplit(".", 1)[-1] in lora.targets and hasattr(m, "in_features")]
    if not layers:
        raise ConfigurationInvalid(f"{base_name} has no layer named {', '.join(lora.targets)}.", field="lora.targets")
    narrowest = min(min(int(layer.in_features), int(layer.out_features)) for layer in layers)
    if lora.rank > narrowest:
        raise ConfigurationInvalid(f"Rank {lora.rank} is above the narrowest layer, {narrowest}.", field="lora.rank")
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(base, config)
    # A name that means the same on every machine; peft would write this machine's path.
    model.peft_config["default"].base_model_name_or_path = base_name
    return model


def save(model: PeftModel, out: Path) -> None:
    """Write the adapter as it is served: its low-rank pairs in bfloat16. The model keeps the rounded values."""
    pairs = [value for value in model.parameters() if value.requires_grad]
    trained_in = pairs[0].dtype
    for value in pairs:
        value.data = value.data.to(torch.bfloat16)
    # Embeddings are not trained; looking whether they were would ask a hub.
    model.save_pretrained(str(out), save_embedding_layers=False)
    for value in pairs:
        value.data = value.data.to(trained_in)
    (out / "README.md").unlink(missing_ok=True)
    config = out / "adapter_config.json"
    content = json.loads(config.read_text(encoding="utf-8"))
    # A set in peft: its order would differ from run to run.
    content["target_modules"].sort()
    config.write_text(json.dumps(content, indent=2), encoding="utf-8")


def padding_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that fills rows up; a tokenizer without one lends its end, which bears no loss there."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)
