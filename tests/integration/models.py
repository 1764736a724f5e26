"""Makers of tiny language models with random weights: they say nonsense, but the same nonsense in every implementation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HIDDEN = 64
LAYERS = 2
SPECIAL = ("<|pad|>", "<|begin|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
PLAIN_MARK = "<note>"
"""An added token that is not flagged special, as reasoning and tool marks often are."""
TEMPLATE = (
    "<|begin|>{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] | trim }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEXT = (
    "안녕하세요. 오늘 하루는 어땠어요? 밥은 먹었니? 네가 웃으면 나도 좋아. 별빛 아래에서 노래를 부르자.",
    "The quick brown fox jumps over the lazy dog, and the band sings one more song tonight.",
    '{"name": "하늘", "age": 7, "likes": ["바다", "고양이"]}',
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of a few hundred tokens: most Korean syllables take two or three tokens."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(TEXT, trainer)
    backend.add_tokens([PLAIN_MARK])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|begin|>", eos_token="<|end|>", pad_token="<|pad|>"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def make_language_model(folder: Path, *, hidden: int = HIDDEN, layers: int = LAYERS, seed: int = 0) -> Path:
    """A Llama with random weights, wide enough apart that no two tokens tie."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=hidden * 2,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=1,
        max_position_embeddings=2048,
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_adapter(
    base: Path,
    folder: Path,
    *,
    rank: int = 4,
    seed: int = 1,
    modules: Sequence[str] = ("q_proj", "v_proj", "down_proj"),
) -> Path:
    """A LoRA adapter of `base` with random weights, strong enough to change every reply."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(r=rank, lora_alpha=rank * 2, target_modules=list(modules), task_type="CAUSAL_LM")
    get_peft_model(model, config).save_pretrained(folder)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file(
        {name: torch.randn_like(value) * 0.2 for name, value in weights.items()}, folder / "adapter_model.safetensors"
    )
    return folder


def edit_adapter(folder: Path, **changes: object) -> Path:
    """Change entries of an adapter's configuration."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder
