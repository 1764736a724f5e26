"""A turn's beginning and end; what lies between is `tasks.flow`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from shared import memory, wav
from shared.app import task
from shared.attempt import Attempt
from shared.contracts.base import BlobRef
from shared.contracts.llm import Generation
from shared.contracts.rag import Retrieval
from shared.contracts.speech import Speech, SpokenSentence, Transcript
from shared.contracts.turn import FinishRequest, StageTiming, TurnRequest, TurnResult
from shared.packs import load_pack

from . import flow
from .limits import check_length

GAP_MS = 120
"""Silence between two sentences of the merged audio."""


@task("turns.start")
def start(attempt: Attempt, turn: TurnRequest) -> None:
    """Open the first stage; the job ends with `turns.finish` once all stages have."""
    load_pack(turn.pack)
    if turn.text is None:
        flow.hear(attempt, turn)
    else:
        check_length(turn.text)
        flow.look_up(attempt, turn, turn.text)
    attempt.then_wait_for_stages(attempt.stage("finish", "turns.finish", FinishRequest(tenant=turn.tenant)))


@task("turns.finish")
def finish(attempt: Attempt, _: FinishRequest) -> TurnResult:
    """Gather the stages' results, merge the audio, remember the turn."""
    turn = flow.turn_of(attempt)
    records = attempt.claim.left
    found = {record["task"]: json.loads(record["result"]) for record in records if "result" in record}
    generation = Generation.model_validate(found["llm.generate"])
    heard = turn.text or Transcript.model_validate(found["stt.transcribe"]).text
    sentences = _sentences(records)
    audio, duration_s = _merge(attempt, sentences)
    attempt.remember(
        memory.turn(attempt.jobs, turn.tenant, turn.pack, turn.session, user=heard, assistant=generation.text)
    )
    pack = load_pack(turn.pack)
    return TurnResult(
        job_id=attempt.claim.root,
        pack=turn.pack,
        session=turn.session,
        transcript=heard,
        context=Retrieval.model_validate(found["rag.retrieve"]).sources if "rag.retrieve" in found else (),
        reply=generation.text,
        sentences=sentences,
        audio=audio,
        audio_duration_s=duration_s,
        adapter=generation.adapter,
        adapter_version=generation.adapter_version,
        voice=(turn.voice or pack.voice) if turn.speech else None,
        finish_reason=generation.finish_reason,
        usage=generation.usage,
        **_times(attempt.claim.created_ms, attempt.claim.clock_ms(), records),
    )


def _sentences(records: Iterable[dict[str, str]]) -> tuple[SpokenSentence, ...]:
    spoken = [
        Speech.model_validate_json(r["result"]) for r in records if r["task"] == "tts.synthesize" and "result" in r
    ]
    return tuple(sorted((sentence for speech in spoken for sentence in speech.sentences), key=lambda s: s.seq))


def _merge(attempt: Attempt, sentences: tuple[SpokenSentence, ...]) -> tuple[BlobRef | None, float]:
    if not sentences:
        return None, 0.0
    waveforms = [wav.decode(attempt.blobs.get(sentence.audio, tenant=attempt.tenant)) for sentence in sentences]
    merged = wav.join(waveforms, gap_ms=GAP_MS)
    name = f"{attempt.claim.root}.wav"
    return attempt.blobs.put(attempt.tenant, "reply", name, wav.encode(merged), "audio/wav"), round(
        merged.duration_s, 3
    )


def _times(zero: int, now: int, records: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Timings of the stages, in milliseconds from the job's acceptance at `zero`."""
    timings = [_timing(zero, record) for record in records if "finished" in record]
    total = now - zero
    spoken = [timing.finished_at for timing in timings if timing.seq is not None]
    llm = next(record for record in records if record["task"] == "llm.generate")
    return {
        "timings": tuple(timings),
        "total_ms": total,
        "overhead_ms": round(total - _covered(timings), 2),
        "ttft_ms": round(float(llm["started"]) - zero + json.loads(llm["result"])["ttft_ms"], 2),
        "ttfa_ms": min(spoken) if spoken else None,
    }


def _timing(zero: int, record: dict[str, str]) -> StageTiming:
    result = json.loads(record.get("result", "{}"))
    sentences = result.get("sentences") if record["task"] == "tts.synthesize" else None
    return StageTiming(
        stage=record["task"],
        queued_at=int(record["created"]) - zero,
        started_at=int(record["started"]) - zero,
        finished_at=int(record["finished"]) - zero,
        engine_ms=result.get("engine_ms", 0.0),
        seq=sentences[0]["seq"] if sentences else None,
    )


def _covered(timings: list[StageTiming]) -> float:
    """Milliseconds in which at least one engine was at work, taken to end with its stage."""
    covered, until = 0.0, 0.0
    for start, end in sorted((timing.finished_at - timing.engine_ms, timing.finished_at) for timing in timings):
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return covered
