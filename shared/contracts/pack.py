"""A pack: one product as data. Who speaks, how, about what, in which voice."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from .base import Many, Name, NonBlank, Text
from .llm import Sampling
from .rag import ChunkProfile
from .speech import Language, VoiceEngine

PACK_ID_PATTERN = r"^[a-z][a-z0-9-]{1,31}$"
PackId = Annotated[str, Field(pattern=PACK_ID_PATTERN)]
"""A pack's name, which is also its folder's."""


def _one_line(text: str) -> str:
    if "\n" in text:
        raise ValueError("must be one line")
    return text


Line = Annotated[NonBlank, AfterValidator(_one_line)]
"""One line of text; prompts are built of such lines."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]
"""A part of one."""


class _PackPart(BaseModel):
    """A piece of a pack: frozen, refuses unknown fields and never coerces a type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PersonaSheet(_PackPart):
    """Who speaks."""

    age: Annotated[int, Field(ge=1, le=120)] | None = None
    occupation: Line
    position: Line | None = None
    """Role in a group, where there is one."""
    traits: Annotated[Many[Line], Field(min_length=1)]
    likes: Many[Line] = ()
    dislikes: Many[Line] = ()
    background: Line


class SelfReference(_PackPart):
    """How the persona speaks of itself."""

    use: Annotated[Many[Line], Field(min_length=1)]
    avoid: Many[Line] = ()
    """Words for oneself that break character; matched as whole words, particles allowed."""


class Address(_PackPart):
    """How the listener is called."""

    default: Annotated[Many[Line], Field(min_length=1)]
    """Forms of address while the listener's name is not known."""
    by_name: bool = True
    """The listener's given name, once known, counts as well."""
    every_reply: bool = True
    """Each reply calls the listener at least once."""


class Endings(_PackPart):
    """How sentences end; suffixes, compared without closing punctuation."""

    signature: Many[Line] = ()
    """Where given, at least one sentence of each reply ends so."""
    forbidden: Many[Line] = ()
    """No sentence ends so."""


class Emoji(_PackPart):
    """How often emoji stand in a reply."""

    ratio: Share = 0.0
    """Share of replies with an emoji: 0 means never, 1 means always."""
    allowed: Many[Line] = ()
    """Empty with a ratio above 0: any emoji."""


class Speech(_PackPart):
    """Speech rules, each of which a reply can be checked against."""

    formality: Literal["informal", "formal", "mixed"]
    informal_ratio: Share
    """Share of sentences in informal speech."""
    self_reference: SelfReference
    address: Address
    endings: Endings = Endings()
    emoji: Emoji = Emoji()
    prohibitions: Many[Line] = ()
    """What the persona never does, in words for people and for the judge."""


class PromptLines(_PackPart):
    """What the persona block of the prompt says: short, because every token of it is paid in each turn."""

    persona: Annotated[Many[Line], Field(min_length=1, max_length=6)]
    safety: Annotated[Many[Line], Field(min_length=1, max_length=6)]


class Safety(_PackPart):
    """What is kept out of a conversation."""

    rules: Annotated[Many[Line], Field(min_length=1)]
    blocked_reply: NonBlank
    """Said in character when an input or an output is blocked."""
    unknown_reply: NonBlank
    """Said in character when nothing is known about the question."""
    banned_terms: Many[Line] = ()
    """Words that never stand in a reply."""


class RetrievalDefaults(_PackPart):
    """How the pack's knowledge is searched."""

    collection: Name
    top_k: Annotated[int, Field(ge=1, le=20)] = 3
    min_score: Annotated[float, Field(ge=-1.0, le=1.0)] = 0.0
    """Cosine similarity under which a chunk is dropped."""
    profile: ChunkProfile = "tokens-512-64"


class Album(_PackPart):
    """A record of an artist's world."""

    title: Line
    order: Annotated[int, Field(ge=1)]
    released: Line
    concept: Line


class World(_PackPart):
    """World building of an artist pack: `world.yaml`."""

    concept: NonBlank
    fandom: Line
    fandom_meaning: Line
    group: Line | None = None
    members: Many[Line] = ()
    arc: Annotated[Many[Line], Field(min_length=1)]
    """The story so far, one step a line."""
    albums: Many[Album] = ()


class FormantVoice(_PackPart):
    """Settings of espeak-ng."""

    variant: Annotated[str, Field(pattern=r"^[a-z]{2,3}(\+[A-Za-z0-9_-]{1,32})?$")]
    """Language and voice variant, e.g. `ko+f2`."""
    speed_wpm: Annotated[int, Field(ge=80, le=400)]
    """Words a minute."""
    pitch: Annotated[int, Field(ge=0, le=99)]
    """0 to 99, 50 is the variant's own."""


class NeuralVoice(_PackPart):
    """Settings of XTTS v2 (its published weights forbid commercial use)."""

    reference: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")] | None = None
    """Recording inside the pack's folder; empty: latents made from the formant voice."""
    temperature: Annotated[float, Field(gt=0.0, le=1.5)] = 0.65
    speed: Annotated[float, Field(ge=0.5, le=2.0)] = 1.0


class PackVoice(_PackPart):
    """A pack's voice: `voice.yaml`, settings per engine."""

    id: Name
    language: Language = "ko"
    engine: VoiceEngine | None = None
    """Empty: the cluster's default."""
    formant: FormantVoice
    neural: NeuralVoice = NeuralVoice()
    sample_text: Line
    """What `maeari say` speaks to try the voice."""


class Persona(_PackPart):
    """`persona.yaml`."""

    id: PackId
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    name: Line
    language: Language = "ko"
    description: Text
    sheet: PersonaSheet
    speech: Speech
    prompt: PromptLines
    safety: Safety
    retrieval: RetrievalDefaults
    adapter: Name
    """LoRA adapter that gives the speech style."""
    voice: Name
    sampling: Sampling = Sampling()


class SeedDialogue(_PackPart):
    """A line of `seeds.jsonl`: a dialogue written by hand, the person first, in turns."""

    id: Line
    category: Literal["daily", "knowledge", "memory", "comfort", "safety"]
    turns: Annotated[Many[NonBlank], Field(min_length=2)]
    """Alternating: person, persona, person, persona."""

    @model_validator(mode="after")
    def _ends_with_the_persona(self) -> SeedDialogue:
        if len(self.turns) % 2:
            raise ValueError("the last turn must be the persona's")
        return self


class Pack(Persona):
    """A whole pack as loaded: the persona and what stands in the files beside it."""

    speaker: PackVoice
    """The voice that `voice` names."""
    world: World | None = None

    @model_validator(mode="after")
    def _voice_is_there(self) -> Pack:
        if self.voice != self.speaker.id:
            raise ValueError(f"persona.yaml names the voice {self.voice}, voice.yaml holds {self.speaker.id}")
        return self
