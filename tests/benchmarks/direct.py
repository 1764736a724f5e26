"""A single Python process that calls the engines itself, without any queue: what the cluster is held against.

`python -m tests.benchmarks.direct ROLE...` loads the very engines of these roles and answers questions; see `child.serve`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from shared.contracts.base import BlobRef
from shared.contracts.llm import GenerateRequest, Sampling
from shared.contracts.rag import RetrieveRequest
from shared.contracts.speech import SynthesizeRequest, TranscribeRequest
from shared.packs import load_pack
from shared.prompting import build_messages
from shared.runtime import engines
from shared.settings import settings
from shared.text import SentenceSplitter
from workers.roles import roles

from .child import serve

CALLERS = 16
"""Threads that call an engine at a time, as many as a worker has."""
GREEDY = Sampling(temperature=0.0, max_tokens=96)
NEVER = threading.Event()


class Row:
    """The four engines in a row."""

    def __init__(self) -> None:
        """A pack's turn."""
        self.pack = load_pack("artist")
        self._number = 0

    def turn(self, audio: bytes) -> dict[str, float]:
        """Milliseconds of each part, one after another; of generation also to the end of its first sentence."""
        began = time.perf_counter()
        heard = self._hear(audio)
        heard_at = time.perf_counter()
        sources = self._look_up(heard)
        found_at = time.perf_counter()
        sentences, first_at = self._write(heard, sources)
        written_at = time.perf_counter()
        spoken = []
        for sentence in sentences:
            request = SynthesizeRequest(text=sentence, voice=self.pack.voice, language=self.pack.language, seq=0)
            _engine("synthesizer").synthesize(request, sentence, stop=NEVER)
            spoken.append(time.perf_counter())
        parts = {
            "transcribe": heard_at - began,
            "retrieve": found_at - heard_at,
            "first_sentence": first_at - found_at,
            "generate": written_at - found_at,
            "speak_first": spoken[0] - written_at,
            "total": spoken[-1] - began,
        }
        return {name: seconds * 1000 for name, seconds in parts.items()}

    def _hear(self, audio: bytes) -> str:
        ref = BlobRef(key="default/audio/question.wav")
        request = TranscribeRequest(audio=ref, language="ko")
        return str(_engine("transcriber").transcribe(audio, request, stop=NEVER).text)

    def _look_up(self, heard: str) -> Any:
        retrieval = self.pack.retrieval
        request = RetrieveRequest(query=heard, pack=self.pack.id, top_k=retrieval.top_k, min_score=retrieval.min_score)
        return _engine("retriever").retrieve(request)

    def _write(self, heard: str, sources: Any) -> tuple[list[str], float]:
        splitter = SentenceSplitter(settings().tts_max_chars)
        sentences: list[str] = []
        firsts: list[float] = []

        def on_text(text: str) -> None:
            sentences.extend(splitter.feed(text))
            if sentences and not firsts:
                firsts.append(time.perf_counter())

        messages = build_messages(self.pack, sources, (), heard)
        request = GenerateRequest(messages=messages, adapter=self.pack.adapter, sampling=GREEDY, stream=True)
        self._number += 1
        _engine("generator").generate(request, request_id=str(self._number), stop=NEVER, timeout_s=120, on_text=on_text)
        sentences.extend(splitter.flush())
        return sentences, (firsts or [time.perf_counter()])[0]


def _engine(name: str) -> Any:
    return getattr(engines, name)


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _pool(work: Callable[[Any], Any], items: list[Any]) -> float:
    with ThreadPoolExecutor(CALLERS) as pool:
        return _timed(lambda: list(pool.map(work, items)))


def _transcribe_pooled(path: str, count: int) -> float:
    row, audio = Row(), _read(path)
    return _pool(row._hear, [audio] * count)


def _transcribe_batched(path: str, count: int) -> float:
    """faster-whisper's own batches: voice activity of every recording, then all stretches through one pipeline."""
    import numpy as np
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    from workers import audio as sound

    transcriber = _engine("transcriber")
    options, rate = transcriber._options, 16_000

    def all_of_it() -> None:
        clips, pieces, at = [], [], 0
        for _ in range(count):
            samples = sound.decode(_read(path), rate, max_s=300.0)
            spans = get_speech_timestamps(samples, VadOptions(max_speech_duration_s=options.window_s))
            clips += [{"start": (at + span["start"]) / rate, "end": (at + span["end"]) / rate} for span in spans]
            pieces.append(samples)
            at += len(samples)
        segments, _ = transcriber._pipeline.transcribe(
            np.concatenate(pieces), language="ko", clip_timestamps=clips, batch_size=settings().stt_batch,
            beam_size=options.beam_size, max_new_tokens=options.max_new_tokens, without_timestamps=True,
        )  # fmt: skip
        list(segments)

    return _timed(all_of_it)


@cache
def _library() -> Any:
    """sentence-transformers as it comes."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(settings().model(settings().embed_model), device="cpu")


def _embed(texts: list[str], batch: int, all_cores: bool) -> float:
    """sentence-transformers' own call, all texts at once; its tokenizer on one thread, as everything here, or on all cores."""
    import torch

    model = _library()
    os.environ["TOKENIZERS_PARALLELISM"] = str(all_cores).lower()

    def run() -> None:
        with torch.inference_mode():
            model.encode_document(texts, batch_size=batch, normalize_embeddings=True, show_progress_bar=False)

    return _timed(run)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read()


def main() -> None:
    """Load, warm up, answer."""
    for role in sys.argv[1:]:
        roles()[role].load(engines)
    for engine in vars(engines).values():
        if engine is not None:
            engine.warm_up()
    row = Row()
    serve(
        {
            "turn": lambda path: row.turn(_read(path)),
            "transcribe_pooled": lambda about: _transcribe_pooled(*about),
            "transcribe_batched": lambda about: _transcribe_batched(*about),
            "embed": lambda about: _embed(*about),
            "retrieve": lambda queries: _pool(row._look_up, queries),
        }
    )


if __name__ == "__main__":
    main()
