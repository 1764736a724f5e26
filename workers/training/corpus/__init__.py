"""Seeded generators of everything that the laptop models are trained from, and their held-out halves.

questions(pack_id)                        spoken questions about facts
pairs(pack_id, split, seed, variants)     question and passage, for the embedder
dialogues(pack_id | "neutral", n, seed, split)   prompts and right replies, for the language model
spoken_sentences(seed)                    for speech recognition
violations(style, reply, name)            the speech-style rules
"""

from workers.training.corpus.dialogues import Dialogue, dialogues
from workers.training.corpus.facts import PACKS, Fact, Section, facts, markdown, sections
from workers.training.corpus.questions import Pair, Question, pairs, questions
from workers.training.corpus.speech import SpokenSentence, spoken_sentences
from workers.training.corpus.style import NEUTRAL, violations
from workers.training.corpus.values import Split

__all__ = [
    "NEUTRAL",
    "PACKS",
    "Dialogue",
    "Fact",
    "Pair",
    "Question",
    "Section",
    "Split",
    "SpokenSentence",
    "dialogues",
    "facts",
    "markdown",
    "pairs",
    "questions",
    "sections",
    "spoken_sentences",
    "violations",
]
