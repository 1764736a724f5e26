"""The shipped speech model through the workers' transcriber, on speech that it has never heard."""

from __future__ import annotations

from workers.engines.transcriber import WhisperTranscriber
from workers.training.speech_data import Utterance, speak
from workers.training.speech_examination import Score, transcribe

SAID = (
    Utterance("엄마 첫 직장이 어디였어?", "", 185, 47),
    Utterance("내가 태어난 날 날씨가 어땠어?", "+f2", 155, 58),
    Utterance("새 앨범 제목이 뭐야?", "", 175, 50),
)


def test_the_shipped_model_understands_speech() -> None:
    transcriber = WhisperTranscriber()
    score = Score()
    for utterance in SAID:
        score.add(utterance.text, transcribe(transcriber, speak(utterance)))
    transcriber.close()
    assert score.figures()["cer"] <= 0.12, score.confusions
