"""A spoken turn through four real engines: its own overhead, time to first token and to first audio."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from shared.blobs import open_store
from shared.packs import load_pack, sample_questions
from tests.support.chroma import ChromaServer

from .stage import median, stage

ROUNDS = 10


def measure(folder: Path) -> dict[str, Any]:
    """One turn after another, each in a session of its own."""
    question = sample_questions(load_pack("artist"))[0]
    command = ["espeak-ng", "-v", "ko", "--stdin", "--stdout"]
    wav = subprocess.run(command, input=question.encode(), capture_output=True, check=True).stdout
    audio = open_store((folder / "blobs").as_uri()).put("default", "audio", "question.wav", wav, "audio/wav")
    chroma = ChromaServer(folder / "chroma")
    results: list[dict[str, Any]] = []
    try:
        environment = {"MAEARI_CHROMA_PORT": str(chroma.port), "MAEARI_TASK_EVENTS": "false"}
        with stage(folder, ["conductor", "llm", "stt", "tts", "rag"], **environment) as on:
            for number in range(ROUNDS + 2):
                request = {"pack": "artist", "session": f"turn-{number}", "audio": audio.model_dump()}
                job = on.producer.submit("turns.start", request)
                results.append(on.producer.result(job.job_id, timeout_s=120))
    finally:
        chroma.close()
    measured = results[2:]
    return {
        name: median([result[name] for result in measured])
        for name in ("overhead_ms", "ttft_ms", "ttfa_ms", "total_ms")
    }
