"""A turn as its events tell it: what is known so far, and its files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.contracts.base import BlobRef
from shared.contracts.events import Event
from shared.contracts.rag import Source
from shared.contracts.turn import StageTiming, TurnResult

Fetch = Callable[[BlobRef], bytes]
"""Reads a blob of the tenant."""


@dataclass
class Turn:
    """What the caller knows, event by event. Audio is written into `folder` as it arrives."""

    folder: Path
    fetch: Fetch
    transcript: str = ""
    sources: tuple[Source, ...] = ()
    reply: str = ""
    sentences: dict[int, tuple[str, Path, float]] = field(default_factory=dict)
    """Text, file and seconds by place."""
    stage: str = "waiting"
    notes: list[str] = field(default_factory=list)
    """Retries, for people."""

    def take(self, event: Event) -> None:
        """Learn from an event."""
        if event.type == "started":
            self.stage = event.stage
        elif event.type == "transcript":
            self.transcript = event.text
        elif event.type == "context":
            self.sources = event.sources
        elif event.type == "text.delta":
            self.reply = self.reply[: event.offset] + event.text
        elif event.type == "audio":
            path = self._write(f"sentence-{event.sentence:02d}.wav", event.audio)
            self.sentences[event.sentence] = (event.text, path, event.duration_s)
        elif event.type == "retrying":
            self.notes.append(f"{event.fault.stage} failed ({event.fault.code}) and is tried again")

    def finish(self, result: TurnResult) -> Path | None:
        """Complete what is missing from the result; the merged audio's file."""
        self.transcript, self.sources, self.reply = result.transcript, result.context, result.reply
        for sentence in result.sentences:
            if sentence.seq not in self.sentences:
                path = self._write(f"sentence-{sentence.seq:02d}.wav", sentence.audio)
                self.sentences[sentence.seq] = (sentence.text, path, sentence.duration_s)
        return self._write("reply.wav", result.audio) if result.audio else None

    def _write(self, name: str, ref: BlobRef) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        path.write_bytes(self.fetch(ref))
        return path


def as_json(turn: Turn, result: TurnResult, merged: Path | None) -> dict[str, Any]:
    """The one object that `--json` prints; times in milliseconds."""
    spoken = [turn.sentences[seq] for seq in sorted(turn.sentences)]
    return {
        "job_id": result.job_id,
        "pack": result.pack,
        "session": result.session,
        "transcript": result.transcript,
        "context": [source.model_dump(mode="json") for source in result.context],
        "reply": result.reply,
        "audio_files": [str(path) for _, path, _ in spoken],
        "audio": str(merged) if merged else None,
        "audio_duration_s": result.audio_duration_s,
        "sentences": [
            {"seq": seq, "text": text, "file": str(path), "duration_s": seconds}
            for seq, (text, path, seconds) in sorted(turn.sentences.items())
        ],
        "adapter": result.adapter,
        "adapter_version": result.adapter_version,
        "voice": result.voice,
        "finish_reason": result.finish_reason,
        "usage": result.usage.model_dump(),
        "timings": [timing.model_dump() for timing in result.timings],
        "stage_ms": by_stage(result.timings),
        "ttft_ms": result.ttft_ms,
        "ttfa_ms": result.ttfa_ms,
        "total_ms": result.total_ms,
        "overhead_ms": result.overhead_ms,
    }


def by_stage(timings: Sequence[StageTiming]) -> dict[str, float]:
    """Milliseconds from a stage's first start to its last end; sentences of one reply count as one stage."""
    spans: dict[str, tuple[float, float]] = {}
    for timing in timings:
        start, end = spans.get(timing.stage, (timing.started_at, timing.finished_at))
        spans[timing.stage] = (min(start, timing.started_at), max(end, timing.finished_at))
    return {stage: round(end - start, 1) for stage, (start, end) in spans.items()}
