"""Text generation, and the hand-over of finished sentences to synthesis."""

from __future__ import annotations

import json

from shared import runtime
from shared.app import task
from shared.attempt import Attempt
from shared.contracts.base import cleaned
from shared.contracts.llm import GenerateRequest, Generation, Speak
from shared.errors import InvalidRequest
from shared.settings import settings
from shared.text import SentenceSplitter

from . import flow


class Speaker:
    """Opens a synthesis stage for each sentence as soon as it is complete.

    With every sentence the text so far is recorded: should this attempt die, the next one goes on behind the last
    sentence that was handed over, so that nothing is spoken twice.
    """

    def __init__(self, attempt: Attempt, speak: Speak) -> None:
        """Take up what an earlier attempt left."""
        self._attempt = attempt
        self._speak = speak
        self._splitter = SentenceSplitter(settings().tts_max_chars)
        state = json.loads(attempt.claim.checkpoint or '{"text": "", "sentences": 0}')
        self.spoken: str = state["text"]
        self.count: int = state["sentences"]
        self._pending = ""

    def feed(self, text: str) -> None:
        """New text of the reply."""
        self._pending += text
        self._hand_over(self._splitter.feed(text))

    def finish(self) -> None:
        """The reply is complete."""
        self._hand_over(self._splitter.flush())

    def _hand_over(self, sentences: list[str]) -> None:
        for sentence in sentences:
            end = self._pending.index(sentence) + len(sentence)
            self.spoken += self._pending[:end]
            self._pending = self._pending[end:]
            if text := cleaned(sentence).strip():
                stage = flow.sentence(self._attempt, self._speak, self.count, text)
                self.count += 1
                state = json.dumps({"text": self.spoken, "sentences": self.count}, ensure_ascii=False)
                self._attempt.open(stage, checkpoint=state)


@task("llm.generate")
def generate(attempt: Attempt, request: GenerateRequest) -> Generation:
    """The next message of a conversation; in a turn it is spoken as it comes."""
    if request.speak is not None and not attempt.claim.in_turn:
        raise InvalidRequest("speak is for turns; submit turns.start instead.", field="speak")
    speaker = Speaker(attempt, request.speak) if request.speak else None
    prefix = request.prefix + (speaker.spoken if speaker else "")
    attempt.start_at(len(prefix))

    def on_text(text: str) -> None:
        attempt.say(text)
        if speaker:
            speaker.feed(text)

    generation = runtime.generator().generate(
        request.model_copy(update={"prefix": prefix}),
        request_id=f"{attempt.claim.id}.{attempt.claim.fence}",
        stop=attempt.stop,
        timeout_s=attempt.timeout_s,
        on_text=on_text if request.stream or speaker else None,
    )
    if speaker:
        speaker.finish()
    return generation.model_copy(
        update={"text": prefix + generation.text, "sentences": speaker.count if speaker else 0}
    )
