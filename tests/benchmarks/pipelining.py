"""First audio while the text still comes, against synthesis of the whole text: engines timed like a GPU's (scripted).

15 ms a token, 400 ms a sentence of audio, a reply of five sentences. Counted from the start of generation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shared.contracts.events import AudioReady, Event, Started
from shared.producer import Producer

from .stage import median, stage

ROUNDS = 7
REPLY = (
    "안녕하세요 오늘도 와 줘서 고마워요. 아침에는 바닷가를 천천히 걸었어요. "
    "점심에는 친구들과 국수를 먹었고요. 저녁에는 새 노래를 연습할 거예요. 내일도 우리 꼭 만나요!"
)


def _at(events: list[Event], kind: type[Started] | type[AudioReady], stage_name: str = "") -> int:
    return next(
        event.at for event in events if isinstance(event, kind) and stage_name in (getattr(event, "stage", ""), "")
    )


def _turn(producer: Producer, number: int) -> float:
    request = {"pack": "artist", "session": f"pipe-{number}", "text": "안녕"}
    events = list(producer.follow(producer.submit("turns.start", request).job_id, timeout_s=60))
    return _at(events, AudioReady) - _at(events, Started, "llm.generate")


def _whole(producer: Producer, number: int) -> float:
    """The same reply, spoken in one piece once its text is complete."""
    request = {"pack": "artist", "session": f"whole-{number}", "text": "안녕", "speech": False}
    job = producer.submit("turns.start", request)
    events = list(producer.follow(job.job_id, timeout_s=60))
    written = events[-1].at - _at(events, Started, "llm.generate")
    speech = producer.submit(
        "tts.synthesize", {"text": producer.result(job.job_id)["reply"], "voice": "artist", "seq": 0}
    )
    spoken = list(producer.follow(speech.job_id, timeout_s=60))
    return written + _at(spoken, AudioReady) - _at(spoken, Started)


def measure(folder: Path) -> dict[str, Any]:
    """Alternating rounds."""
    timing = {"MAEARI_SCRIPTED_TOKEN_MS": "15", "MAEARI_SCRIPTED_SENTENCE_MS": "400", "MAEARI_SCRIPTED_REPLY": REPLY}
    roles = ["conductor", "llm", "tts", "rag"]
    early, late = [], []
    with stage(folder, roles, MAEARI_ENGINES="scripted", **timing) as on:
        for number in range(ROUNDS):
            early.append(_turn(on.producer, number))
            late.append(_whole(on.producer, number))
    return {
        "first_audio_ms": median(early),
        "first_audio_whole_text_ms": median(late),
        "ratio": median([a / b for a, b in zip(early, late, strict=True)]),
    }
