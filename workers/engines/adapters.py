"""LoRA adapters: looked at closely before the engine sees them, and held so that it never has to read one again.

An engine that is given a bad adapter inside a batch dies for everyone. So an adapter is checked from its files first,
then loaded by itself, where a failure is answered and not fatal, and only then used. And since an engine that has run
out of room forgets an adapter and would read its files again in the middle of a batch, room is made here, in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import re
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

from shared.errors import InvalidAdapter
from shared.versions import ABOUT, CONFIG, MARK, WEIGHTS, Registry, digest

FRESH_S = 0.01
"""Seconds for which a look at the files holds: jobs of a burst look once."""
MAX_HEADER = 16 * 1024 * 1024
"""Bytes of a safetensors header."""
UNSUPPORTED = ("use_dora", "lora_bias", "layer_replication", "alora_invocation_tokens", "modules_to_save")
"""PEFT features that the engine does not apply."""
TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(\.[^.]+)?\.weight")
EXPONENTS = {"F32": ("<u4", 0x7F80_0000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}
"""Number types of weights: how their bits are read, and which of them are all set in what is not finite."""
LAYER = re.compile(r"(^|\.)layers\.(\d+)\.")


@dataclass(frozen=True)
class BaseShape:
    """What of a base model an adapter must fit."""

    layers: int
    modules: Mapping[str, tuple[int, int]]
    """Projection to its inputs and outputs."""

    @classmethod
    def of(cls, config: Any) -> BaseShape:
        """From a Hugging Face configuration of the Llama family (Llama, Mistral, Qwen2/3, Gemma, EXAONE 4)."""
        hidden, inner = config.hidden_size, config.intermediate_size
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or hidden // heads
        pairs = (getattr(config, "num_key_value_heads", None) or heads) * width
        modules = {
            "q_proj": (hidden, heads * width),
            "k_proj": (hidden, pairs),
            "v_proj": (hidden, pairs),
            "o_proj": (heads * width, hidden),
            "gate_proj": (hidden, inner),
            "up_proj": (hidden, inner),
            "down_proj": (inner, hidden),
        }
        return cls(layers=config.num_hidden_layers, modules=modules)


@dataclass(frozen=True)
class Adapter:
    """An adapter that has passed the check; another content is another adapter."""

    name: str
    """`artist`, or `artist@3` for a version that was trained and registered."""
    folder: Path
    digest: str
    """SHA-256 over configuration and weights."""

    @property
    def label(self) -> str:
        """Which one it is, for people: a version's number, else the beginning of its digest."""
        return self.name if MARK in self.name else f"{self.name}{MARK}{self.digest[:8]}"

    @property
    def version(self) -> str:
        """Name and content, so that no cache mixes two contents of one name."""
        return f"{self.name}@{self.digest[:16]}"

    @property
    def number(self) -> int:
        """The same for the same name and content, in every process: 1 to 2**31 - 1."""
        return int(hashlib.sha256(self.version.encode()).hexdigest()[:8], 16) % (2**31 - 1) + 1


class Library:
    """The adapters that may be asked for: those that were shipped and the versions that were trained.

    Which version a name means, and whether a file has changed, is looked up with every request, so that a promotion is
    served at once; what has not changed is not read again.
    """

    def __init__(self, registry: Registry, base: BaseShape, max_rank: int, fingerprint: str = "") -> None:
        """`fingerprint`: of the base model; a version over another base is refused. Empty: not known."""
        self._registry = registry
        self._base = base
        self._max_rank = max_rank
        self._fingerprint = fingerprint
        self._checked: dict[str, tuple[object, Adapter]] = {}
        self._found: dict[str, tuple[float, Adapter]] = {}
        """By the name that was asked for: when it was looked up, and what it was."""
        self._lock = threading.Lock()

    def names(self) -> tuple[str, ...]:
        """Every adapter, shipped or trained."""
        return self._registry.names()

    def find(self, name: str) -> Adapter:
        """The adapter `name`, or a version of it: `name@3`, as it lay there `FRESH_S` ago or later.

        Blocks on the first use of a content. Raises `UnknownAdapter`, `InvalidAdapter`.
        """
        at, adapter = self._found.get(name, (-math.inf, None))
        now = time.monotonic()
        if adapter is None or now - at > FRESH_S:
            adapter = self._look_up(name)
            self._found[name] = (now, adapter)
        return adapter

    def _look_up(self, name: str) -> Adapter:
        label, folder = self._registry.resolve(name)
        with self._lock:
            stamp = _stamp(folder)
            known = self._checked.get(label)
            if known is None or known[0] != stamp:
                known = self._checked[label] = (stamp, self._read(label, folder))
            return known[1]

    def _read(self, name: str, folder: Path) -> Adapter:
        try:
            self._check_base(folder)
            check_files(folder, self._base, self._max_rank)
            return Adapter(name, folder, digest(folder))
        except InvalidAdapter as error:
            raise InvalidAdapter(f"'{name}': {error.detail}", field="adapter") from error
        except OSError as error:
            raise InvalidAdapter(f"'{name}' cannot be read: {error.strerror}.", field="adapter") from error

    def _check_base(self, folder: Path) -> None:
        """A retrained base has the same shape; only its fingerprint tells."""
        if not self._fingerprint or not (folder / ABOUT).is_file():
            return
        try:
            over = json.loads((folder / ABOUT).read_bytes()).get("base_fingerprint")
        except (ValueError, AttributeError):
            _refuse(f"{ABOUT} is damaged.")
        if over and over != self._fingerprint:
            _refuse("it was trained over another base model. Go back: maeari adapter rollback NAME.")


def check_files(folder: Path, base: BaseShape, max_rank: int) -> None:
    """Whether the engine can serve what lies in `folder`. Raises `InvalidAdapter`, `OSError`."""
    config = _read_config(folder / CONFIG)
    rank = _check_config(config, max_rank)
    tensors = _read_header(folder / WEIGHTS)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    _check_tensors(shapes, base, None if config.get("rank_pattern") else rank)
    _check_finite(folder / WEIGHTS, tensors)


def _stamp(folder: Path) -> object:
    states = [path.stat() if path.is_file() else None for path in (folder / CONFIG, folder / WEIGHTS)]
    return [state and (state.st_mtime_ns, state.st_size, state.st_ino) for state in states]


def _refuse(detail: str) -> NoReturn:
    raise InvalidAdapter(detail)


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        _refuse(f"it has no {CONFIG}.")
    try:
        config = json.loads(path.read_bytes())
    except ValueError:
        _refuse(f"{CONFIG} is not JSON.")
    return config if isinstance(config, dict) else _refuse(f"{CONFIG} is not a JSON object.")


def _check_config(config: dict[str, Any], max_rank: int) -> int:
    """The adapter's rank."""
    if str(config.get("peft_type")).upper() != "LORA":
        _refuse(f"it is of type {config.get('peft_type')}; only LORA is served.")
    for feature in UNSUPPORTED:
        if config.get(feature):
            _refuse(f"it uses {feature}, which is not served.")
    if config.get("bias") not in {None, "none"}:
        _refuse("it has a bias, which is not served.")
    pattern = config.get("rank_pattern") or {}
    ranks = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else [pattern])]
    for rank in ranks:
        if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
            _refuse(f"its rank is {rank!r}, not a positive number.")
        if rank > max_rank:
            _refuse(f"its rank {rank} is over the limit of {max_rank} (llm_max_lora_rank).")
    return int(ranks[0])


@dataclass(frozen=True)
class _Tensor:
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @classmethod
    def of(cls, entry: dict[str, Any], data: int) -> _Tensor:
        """`data`: where in the file the tensors begin."""
        start, end = entry["data_offsets"]
        return cls(str(entry["dtype"]), tuple(int(n) for n in entry["shape"]), data + int(start), data + int(end))


def _read_header(path: Path) -> dict[str, _Tensor]:
    """The tensors of a safetensors file, whose length must be what the header says."""
    if not path.is_file():
        _refuse(f"it has no {WEIGHTS}.")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > min(size - 8, MAX_HEADER):
            _refuse(f"{WEIGHTS} is cut off or not a safetensors file.")
        raw = file.read(length)
    try:
        header = {name: entry for name, entry in json.loads(raw).items() if name != "__metadata__"}
        tensors = {name: _Tensor.of(entry, 8 + length) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        _refuse(f"the header of {WEIGHTS} is damaged.")
    end = max((tensor.end for tensor in tensors.values()), default=8 + length)
    if end != size:
        _refuse(f"{WEIGHTS} is cut off: it should have {end} bytes and has {size}.")
    return tensors


def _check_finite(path: Path, tensors: Mapping[str, _Tensor]) -> None:
    """One NaN does not end the engine: it spreads through reused cache blocks into the replies to other requests."""
    import numpy as np

    for name, tensor in tensors.items():
        if tensor.dtype not in EXPONENTS:
            _refuse(f"{name} is of type {tensor.dtype}; {', '.join(EXPONENTS)} are served.")
        kind, exponent = EXPONENTS[tensor.dtype]
        count = math.prod(tensor.shape)
        if tensor.end - tensor.start != count * np.dtype(kind).itemsize:
            _refuse(f"the header of {WEIGHTS} is damaged.")
        bits = np.fromfile(path, dtype=kind, count=count, offset=tensor.start)
        if np.any((bits & exponent) == exponent):
            _refuse(f"{name} holds values that are not finite numbers.")


def _check_tensors(shapes: Mapping[str, tuple[int, ...]], base: BaseShape, rank: int | None) -> None:
    """`rank`: what every matrix must have; None: only that both halves agree."""
    halves: dict[str, dict[str, tuple[int, int]]] = {}
    for name, shape in shapes.items():
        match = TENSOR.fullmatch(name)
        if match is None or len(shape) != 2:
            _refuse(f"it holds {name} {list(shape)}, which is no LoRA matrix of a linear layer.")
        halves.setdefault(match["module"], {})[match["side"]] = (shape[0], shape[1])
    if not halves:
        _refuse("it holds no weights.")
    for module, sides in halves.items():
        if len(sides) != 2:
            _refuse(f"{module} lacks one of its two matrices.")
        _check_module(module, sides["A"], sides["B"], base, rank)


def _check_module(module: str, a: tuple[int, int], b: tuple[int, int], base: BaseShape, rank: int | None) -> None:
    if a[0] != b[1] or (rank is not None and a[0] != rank):
        said = "" if rank is None else f", the configuration says {rank}"
        _refuse(f"the rank of {module} is {a[0]} and {b[1]}{said}.")
    layer = LAYER.search(module)
    if layer and int(layer[2]) >= base.layers:
        _refuse(f"it was made for another base model: it has {module}, the base has {base.layers} layers.")
    fits = base.modules.get(module.rpartition(".")[2])
    if fits is None:
        _refuse(f"it adapts {module}, which the base model does not have or the engine does not adapt.")
    if (a[1], b[0]) != fits:
        _refuse(
            f"it was made for another base model: {module} maps {a[1]} to {b[0]} values there, "
            f"{fits[0]} to {fits[1]} in this base."
        )


class AdapterEngine(Protocol):
    """The part of the engine that holds adapters."""

    async def add_lora(self, lora_request: Any) -> bool:
        """Load one; raises when it cannot."""
        ...

    async def remove_lora(self, lora_id: int) -> bool:
        """Forget one."""
        ...


@dataclass
class _Held:
    request: Any
    users: int = 0


class Shelf:
    """The adapters that the engine holds: at most `room`, the least recently used idle one gives way.

    Lives on the engine's event loop.
    """

    def __init__(self, engine: AdapterEngine, room: int, handle: Callable[[Adapter], Any]) -> None:
        """`room`: as many as the engine keeps by itself; `handle`: what the engine calls an adapter."""
        self._engine = engine
        self._room = room
        self._handle = handle
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._changed = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def lend(self, adapter: Adapter | None) -> AsyncIterator[Any]:
        """The engine's handle of `adapter` (None for none); it stays loaded inside the block."""
        if adapter is None:
            yield None
            return
        held = self._held.get(adapter.version) or await self._load(adapter)
        held.users += 1
        self._held.move_to_end(adapter.version)
        try:
            yield held.request
        finally:
            held.users -= 1
            if held.users == 0 and len(self._held) >= self._room:
                async with self._changed:
                    self._changed.notify_all()

    async def _load(self, adapter: Adapter) -> _Held:
        async with self._changed:
            await self._changed.wait_for(lambda: adapter.version in self._held or self._has_room())
            if adapter.version not in self._held:
                await self._make_room()
                self._held[adapter.version] = _Held(await self._add(adapter))
            return self._held[adapter.version]

    def _has_room(self) -> bool:
        return len(self._held) < self._room or any(held.users == 0 for held in self._held.values())

    async def _make_room(self) -> None:
        if len(self._held) < self._room:
            return
        version = next(version for version, held in self._held.items() if held.users == 0)
        await self._engine.remove_lora(self._held.pop(version).request.lora_int_id)

    async def _add(self, adapter: Adapter) -> Any:
        request = self._handle(adapter)
        try:
            loaded = await self._engine.add_lora(request)
        except Exception as error:
            await self._engine.remove_lora(adapter.number)  # raises in its turn when the engine is dead
            raise InvalidAdapter(f"'{adapter.name}': the engine refuses it: {error}", field="adapter") from error
        if not loaded:
            raise InvalidAdapter(f"'{adapter.name}': the engine did not load it.", field="adapter")
        return request
