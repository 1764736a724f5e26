"""The `maeari` command over a scripted producer and a folder of blobs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from typer.testing import CliRunner, Result

from shared import wav
from shared.blobs import Blobs, open_store
from shared.cli.root import app
from shared.cli.tools import Client, Tools
from shared.contracts.base import Request
from shared.contracts.catalog import CATALOG
from shared.contracts.events import EVENT, Event
from shared.contracts.status import JobView, QueueDepth, WorkerStatus
from shared.errors import JobNotFound
from shared.jobs import DeadLetter
from shared.producer import Submitted
from shared.protocols import Waveform

TONE = Waveform(b"".join(value.to_bytes(2, "little", signed=True) for value in (9000, -9000) * 4000), 16_000)
ENGINE = {"name": "e", "model": "m", "version": "1"}
LETTER = DeadLetter("1700000000000-0", "llm", "j9", "llm.generate", "is not JSON", "{broken")


@dataclass
class ScriptedProducer:
    """Answers with events that were written before."""

    script: list[dict[str, Any]] = field(default_factory=list)
    submitted: list[tuple[str, dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    purged: list[str | None] = field(default_factory=list)
    roles: Sequence[str] = ("conductor", "llm", "stt", "tts", "rag")
    interrupt: bool = False
    view: JobView | None = None

    def submit(self, task: str, request: Request | dict[str, Any], **options: Any) -> Submitted:
        spec = CATALOG[task].request
        valid = request if isinstance(request, spec) else spec.model_validate(request)
        self.submitted.append((task, valid.model_dump(mode="json", exclude_none=True), options))
        return Submitted("j1", True)

    def follow(self, job_id: str, *, after: int = 0, timeout_s: float | None = None) -> Iterator[Event]:
        for seq, event in enumerate(self.script, 1):
            if seq > after:
                yield EVENT.validate_python({"seq": seq, "job_id": job_id, "at": 1_700_000_000_000 + seq, **event})
        if self.interrupt:
            raise KeyboardInterrupt
        if timeout_s is not None:
            raise TimeoutError

    def cancel(self, job_id: str) -> bool:
        self.cancelled.append(job_id)
        return True

    def keep_alive(self, job_id: str) -> None:
        """Nobody listens."""

    def job(self, job_id: str) -> JobView | None:
        return self.view

    def queues(self) -> Mapping[str, QueueDepth]:
        return {"llm": QueueDepth(waiting=3, parked=1, oldest_wait_s=2.5)}

    def workers(self) -> list[WorkerStatus]:
        return [
            WorkerStatus(name=f"{role}-0@far", role=role, host="far", pid=1, state="ready", started_ms=1)
            for role in self.roles
        ]

    def dead(self, limit: int = 100) -> list[DeadLetter]:
        return [LETTER][:limit]

    def dead_letter(self, entry: str) -> DeadLetter:
        if entry != LETTER.entry:
            raise JobNotFound(f"No dead letter {entry}.")
        return LETTER

    def replay(self, entry: str) -> str:
        return self.dead_letter(entry).job_id

    def purge(self, entry: str | None = None) -> int:
        self.purged.append(entry)
        return 1 if entry in (None, LETTER.entry) else 0


class Command:
    """The command with a scripted producer."""

    def __init__(self, folder: Path) -> None:
        self.producer = ScriptedProducer()
        self.store: Blobs = open_store((folder / "blobs").as_uri())
        self.folder = folder

    def run(self, *arguments: str, ok: bool = True) -> Result:
        """Run it and check its exit status."""
        tools = Tools(
            producer=self._producer, store=lambda: self.store, out=Console(width=100, highlight=False, file=None)
        )
        result = CliRunner().invoke(app, list(arguments), obj=tools)
        assert (result.exit_code == 0) == ok, (result.exit_code, result.output, result.exception)
        return result

    def _producer(self) -> Client:
        return self.producer

    def json(self, *arguments: str, ok: bool = True) -> Any:
        """What it prints for programs."""
        return json.loads(self.run(*arguments, "--json", ok=ok).stdout)

    def audio(self, name: str) -> dict[str, Any]:
        """A blob with sound in it."""
        return self.store.put("default", "reply", name, wav.encode(TONE), "audio/wav").model_dump()


SOURCE = {"id": "a#0", "collection": "pack.artist", "document": "albums", "text": "첫 앨범은 물결이다.", "score": 0.8}


def turn_result(command: Command, **changes: Any) -> dict[str, Any]:
    """A turn of two sentences."""
    spoken = [
        {"seq": seq, "text": text, "audio": command.audio(f"{seq}.wav"), "duration_s": 0.5}
        for seq, text in enumerate(("안녕!", "반가워."))
    ]
    stages = (
        ("stt.transcribe", 0, 5, 100, None),
        ("rag.retrieve", 100, 102, 120, None),
        ("llm.generate", 120, 121, 400, None),
    )
    sentences = ("tts.synthesize", 200, 201, 260, 0), ("tts.synthesize", 400, 401, 480, 1)
    names = ("stage", "queued_at", "started_at", "finished_at", "seq")
    return {
        "job_id": "j1",
        "pack": "artist",
        "session": "s",
        "transcript": "앨범 제목이 뭐야?",
        "context": [SOURCE],
        "reply": "안녕! 반가워.",
        "sentences": spoken,
        "audio": command.audio("all.wav"),
        "audio_duration_s": 1.1,
        "adapter": "artist",
        "voice": "artist",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 40, "completion_tokens": 9},
        "ttft_ms": 130.0,
        "ttfa_ms": 260.0,
        "total_ms": 500.0,
        "overhead_ms": 21.0,
        "timings": [dict(zip(names, row, strict=True)) for row in (*stages, *sentences)],
    } | changes


def turn_script(command: Command) -> list[dict[str, Any]]:
    """The events of that turn."""
    result = turn_result(command)
    first, second = (
        {"sentence": s["seq"], **{k: s[k] for k in ("text", "audio", "duration_s")}} for s in result["sentences"]
    )
    return [
        {"type": "accepted", "task": "turns.start"},
        {"type": "transcript", "text": result["transcript"], "language": "ko"},
        {"type": "context", "sources": result["context"]},
        {"type": "text.delta", "offset": 0, "text": "안녕! 뭐"},
        {"type": "audio", **first},
        {"type": "text.delta", "offset": 4, "text": "반가워."},
        {"type": "audio", **second},
        {"type": "done", "result": result},
    ]


FAULT = {
    "code": "unknown_voice",
    "message": "There is no such voice. nobody",
    "stage": "tts.synthesize",
    "field": "voice",
}
