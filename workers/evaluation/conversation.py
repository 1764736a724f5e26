"""What an evaluation asks of the running cluster: hear, find, converse. Every answer comes from a job."""

from __future__ import annotations

import contextlib
import random
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from shared import wav
from shared.blobs import open_store
from shared.contracts.base import BlobRef
from shared.contracts.rag import Retrieval
from shared.contracts.speech import Transcript
from shared.contracts.turn import TurnResult
from shared.errors import BrokerUnavailable, MaeariError, NoSpeech
from shared.packs import load_pack
from shared.producer import Producer
from shared.protocols import Waveform
from shared.settings import settings
from workers.training import recipe as recipes
from workers.training.speech_data import RATE, Utterance, Wave, add_noise, join, speak

from .cases import Case, Manner

ROLES = ("conductor", "stt", "rag", "llm", "tts")
"""Kinds of worker that an evaluation needs."""

JOB_S = 180.0
"""Seconds after which a job has failed."""

AROUND_S = (0.5, 0.5)
"""Seconds of background before and behind what is said, as in a recording."""

TOP = 3
"""Chunks among which the right one must be."""


@dataclass(frozen=True)
class Reply:
    """The end of a conversation."""

    text: str
    chunks: tuple[str, ...]
    audio: BlobRef | None
    adapter: str | None


class Cluster:
    """The running cluster as a tenant's producer sees it. May be used from many threads."""

    def __init__(self, producer: Producer, tenant: str) -> None:
        """Every conversation of this object is one of its own, kept apart from all others."""
        self.producer = producer
        self.tenant = tenant
        self._store = open_store(settings().blobs)
        self._run = f"evaluate-{uuid.uuid4().hex[:10]}"
        self._open: set[str] = set()
        self._lock = threading.Lock()

    def check(self) -> None:
        """Raises `BrokerUnavailable` unless a worker of every kind is ready."""
        ready = {worker.role for worker in self.producer.workers() if worker.state == "ready"}
        if missing := [role for role in ROLES if role not in ready]:
            raise BrokerUnavailable(
                f"No worker is ready for {', '.join(missing)}. See: maeari status. Start: maeari up"
            )

    def hear(self, case: Case, number: int, decibels: float | None = None) -> str:
        """What the cluster understands of the case's last turn, spoken; `decibels`: over a background; '' for none."""
        wave = spoken(case, number)
        if decibels is not None:
            wave = add_noise(join([wave], AROUND_S), decibels, np.random.default_rng(number))
        audio = self._store.put(self.tenant, "audio", f"{self._run}-{uuid.uuid4().hex}.wav", encoded(wave), "audio/wav")
        return self.transcribe(audio)

    def transcribe(self, audio: BlobRef) -> str:
        """The text of a recording; '' where there is no speech."""
        try:
            result = self._result("stt.transcribe", audio=audio.model_dump(exclude_none=True), language="ko")
        except NoSpeech:
            return ""
        return Transcript.model_validate(result).text

    def find(self, pack: str, query: str) -> tuple[str, ...]:
        """The first chunks for a query."""
        result = self._result("rag.retrieve", query=query, pack=pack, top_k=TOP)
        return tuple(source.text for source in Retrieval.model_validate(result).sources)

    def converse(self, case: Case, number: int, pack: str, adapter: str | None, *, speech: bool) -> Reply:
        """Hold the case's conversation with the pack's own sampling, seeded; `speech`: the last reply is spoken."""
        sampling = load_pack(pack).sampling.model_copy(update={"seed": number})
        request: dict[str, Any] = {
            "pack": pack,
            "session": f"{self._run}-{uuid.uuid4().hex[:12]}",
            "sampling": sampling.model_dump(mode="json", exclude_none=True),
        } | ({"adapter": adapter} if adapter else {})
        for text in case.turns[:-1]:
            self._result("turns.start", **request, text=text, speech=False)
        result = TurnResult.model_validate(self._result("turns.start", **request, text=case.last, speech=speech))
        return Reply(result.reply, tuple(source.text for source in result.context), result.audio, result.adapter)

    def cancel(self) -> None:
        """Stop every job under way."""
        with self._lock:
            running = tuple(self._open)
        for job_id in running:
            with contextlib.suppress(MaeariError):
                self.producer.cancel(job_id)

    def _result(self, task: str, **request: Any) -> dict[str, Any]:
        request["tenant"] = self.tenant
        with self._running() as job_id:
            self.producer.submit(task, request, job_id=job_id, priority="batch", deadline_s=JOB_S)
            return self.producer.result(job_id, timeout_s=JOB_S + 30)

    @contextlib.contextmanager
    def _running(self) -> Iterator[str]:
        job_id = f"evaluate.{uuid.uuid4()}"
        with self._lock:
            self._open.add(job_id)
        try:
            yield job_id
        finally:
            with self._lock:
                self._open.discard(job_id)


def spoken(case: Case, number: int) -> Wave:
    """The case's last turn as espeak-ng says it: in the case's own manner, or in one never trained."""
    manner = case.voice or unseen(number)
    return speak(Utterance(case.last, manner.variant, manner.speed, manner.pitch))


def unseen(number: int) -> Manner:
    """A speed and a pitch that the recogniser's recipe keeps out of training; the same for the same number."""
    ways = _unseen_ways()
    rng = random.Random(f"manner {number}")
    return Manner(
        variant=rng.choice(ways["variants"]), speed=rng.choice(ways["speeds"]), pitch=rng.choice(ways["pitches"])
    )


@cache
def _unseen_ways() -> dict[str, list[Any]]:
    ways: dict[str, list[Any]] = recipes.read_mapping(recipes.recipe_path("speech"))["speaking"]["unseen"]
    return ways


def encoded(wave: Wave) -> bytes:
    """A WAV file of a waveform."""
    samples = (np.clip(wave, -1.0, 1.0) * 32767).astype("<i2")
    return wav.encode(Waveform(samples.tobytes(), RATE))
