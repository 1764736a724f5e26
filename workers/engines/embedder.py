"""Text to vectors with a sentence-transformers model; calls of many threads share batches."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from huggingface_hub import try_to_load_from_cache
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer
from torch.nn.functional import normalize

from shared.contracts.base import EngineInfo
from shared.errors import ConfigurationInvalid, EngineFailed, MaeariError, OutOfMemory
from shared.settings import settings

from .batching import MicroBatcher

log = logging.getLogger("maeari.embedder")

QUERY_CACHE = 1024
"""Vectors of recent queries that are kept."""
PROFILE_TOKENS = 512
"""Tokens of the longest chunk that a profile makes."""

TABLE_BATCHES, TABLE_TEXTS = 2, 256
"""Batches at a time, and texts in each, where the model is a table of vectors: nearly all of the work is then the
tokenizer's, which needs little memory and leaves the interpreter to others."""

Kind = Literal["query", "document"]
Item = tuple[Kind, str]
Row = npt.NDArray[np.float32]


class SentenceEmbedder:
    """The served embedding model."""

    def __init__(self, name: str | None = None) -> None:
        """Load `name`, by default the configured model. Raises `ConfigurationInvalid` when there is no such model."""
        chosen = settings()
        self._name = name or chosen.embed_model
        source = chosen.model(self._name)
        self._model = _load(source, chosen.embed_device)
        self._tokenizer = _tokenizer(self._model)
        self.dimension = int(self._model.get_embedding_dimension() or 0)
        self._info = EngineInfo(
            name="sentence-transformers",
            model=Path(self._name).name,
            version=_version(source),
            device=str(self._model.device),
        )
        self._table = _Table.of(self._model)
        # Other models' tokenizers are set up for every batch, which two threads must not do at a time.
        at_a_time, texts = (1, chosen.embed_batch) if self._table is None else (TABLE_BATCHES, TABLE_TEXTS)
        self._batcher: MicroBatcher[Item, Row] = MicroBatcher(self._encode, texts, "embedder", at_a_time)
        self._queries: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()
        longest = self._model.max_seq_length
        if longest is not None and longest < PROFILE_TOKENS:
            log.warning("the embedding model reads %d tokens of a text; longer chunks are embedded in part", longest)

    @property
    def info(self) -> EngineInfo:
        """Name, model, version and device; the version changes with any change of the model's files."""
        return self._info

    def warm_up(self) -> None:
        """Run once."""
        self.embed(["안녕하세요"])
        self.embed_query("안녕하세요")

    def close(self) -> None:
        """Finish what is running."""
        self._batcher.close()

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector of unit length per text, in order. Raises `EngineFailed`, `OutOfMemory`."""
        return [row.tolist() for row in self._rows(texts)]

    def pack(self, texts: Sequence[str]) -> bytes:
        """The same vectors one after another, as 32-bit floats, little-endian."""
        return b"".join(row.data for row in self._rows(texts))

    def _rows(self, texts: Sequence[str]) -> list[Row]:
        return self._batcher.submit_all([("document", text) for text in texts])

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question, where the model tells questions from passages; recent ones are remembered."""
        with self._lock:
            known = self._queries.get(text)
            if known is not None:
                self._queries.move_to_end(text)
                return known
        vector: list[float] = self._batcher.submit(("query", text)).tolist()
        with self._lock:
            self._queries[text] = vector
            if len(self._queries) > QUERY_CACHE:
                self._queries.popitem(last=False)
        return vector

    def token_ends(self, text: str) -> list[int]:
        """Where each token of `text` ends, as character positions; the marks around a whole text do not count."""
        return [end for _, end in self._tokenizer.encode(text, add_special_tokens=False).offsets]

    def _encode(self, items: list[Item]) -> list[Row]:
        """Neighbours of one kind go together."""
        runs = groupby(items, itemgetter(0))
        return [row for kind, run in runs for row in self._run(kind, [text for _, text in run])]

    def _run(self, kind: Kind, texts: list[str]) -> list[Row]:
        encode = self._model.encode_query if kind == "query" else self._model.encode_document
        found: Any
        try:
            with torch.inference_mode():
                if self._table is not None:
                    found = self._table.encode(texts)
                else:
                    found = encode(texts, batch_size=len(texts), normalize_embeddings=True, show_progress_bar=False)
        except MaeariError:
            raise
        except torch.OutOfMemoryError as error:
            raise OutOfMemory from error
        except Exception as error:  # whatever the model raises is this job's failure
            raise EngineFailed(f"Embedding ended in {type(error).__name__}.") from error
        return list(np.asarray(found, "<f4"))


def _load(source: str, device: str) -> SentenceTransformer:
    try:
        return SentenceTransformer(source, device=device, local_files_only=Path(source).is_dir())
    except (OSError, ValueError) as error:
        name = type(error).__name__
        raise ConfigurationInvalid(f"The embedding model {source} cannot be loaded ({name}).") from error


def _tokenizer(model: SentenceTransformer) -> Tokenizer:
    """A copy without truncation or padding: the model's own is changed by every batch."""
    own = getattr(model.tokenizer, "backend_tokenizer", model.tokenizer)
    if not isinstance(own, Tokenizer):
        raise ConfigurationInvalid("The embedding model needs a fast tokenizer, which can tell where tokens end.")
    copy = Tokenizer.from_str(own.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


class _Table:
    """A model that is a table of vectors alone, looked up without what the library does around it for other models.

    For short texts that is most of the time, and the places of tokens, which are not noted here, are a quarter of it.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        table = model[0]
        assert isinstance(table, StaticEmbedding)
        self._tokenizer: Any = table.tokenizer
        self._vectors = table.embedding

    @classmethod
    def of(cls, model: SentenceTransformer) -> _Table | None:
        """None where the model is more than a table on this processor."""
        plain = len(model) == 1 and isinstance(model[0], StaticEmbedding) and not any(model.prompts.values())
        return cls(model) if plain and model.device.type == "cpu" else None

    def encode(self, texts: list[str]) -> torch.Tensor:
        """(texts, dimension): vectors of unit length."""
        tokens = [found.ids for found in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        ends = np.cumsum([len(ids) for ids in tokens])
        flat = np.fromiter(chain.from_iterable(tokens), np.int64, int(ends[-1]))
        starts = np.concatenate(([0], ends[:-1]))
        return normalize(self._vectors(torch.from_numpy(flat), torch.from_numpy(starts)), dim=-1)


def _version(source: str) -> str:
    """12 hexadecimal digits of the files' hash; of a hub's model, of the commit."""
    folder = Path(source)
    if not folder.is_dir():
        found = try_to_load_from_cache(source, "config.json")
        return Path(found).parent.name[:12] if isinstance(found, str) else "unknown"
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".md"):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]
