"""Whose voice a name means: one that the tenant has enrolled, else one of a pack.

An enrolled voice is three blobs of the tenant, of the kind `voices`: `<voice>.json`, the record; `<digest>.wav`, the
recordings without silence; `<digest>.<model version>.safetensors`, what the neural model made of them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from shared import wav
from shared.blobs import VOICES, Blobs
from shared.contracts.base import BlobRef, Name
from shared.contracts.pack import FormantVoice, NeuralVoice, PackVoice
from shared.contracts.speech import Language, VoiceEngine
from shared.errors import BlobMissing, PackInvalid, UnknownVoice
from shared.packs import load_pack, pack_folder, pack_ids
from shared.protocols import Waveform

log = logging.getLogger("maeari.voice")


class VoiceRecord(BaseModel):
    """`<voice>.json`: an enrolled voice."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    voice: Name
    digest: str
    """SHA-256 over the recordings."""
    language: Language
    duration_s: float
    """Seconds of recordings without silence."""
    formant: FormantVoice
    """Settings as high as the recordings."""


@dataclass(frozen=True)
class Voice:
    """A voice that can speak."""

    name: str
    engine: VoiceEngine | None
    formant: FormantVoice
    neural: NeuralVoice
    digest: str | None = None
    """Of the recordings, for an enrolled voice."""
    pack: PackVoice | None = None
    pack_id: str = ""


class VoiceBook:
    """Finds and keeps voices."""

    def __init__(self, blobs: Blobs) -> None:
        """`blobs`: where enrolled voices are kept."""
        self._blobs = blobs
        self._packs = _pack_voices()

    def find(self, tenant: str, name: str) -> Voice:
        """The voice of that name; the tenant's own go first. Raises `UnknownVoice`."""
        record = self.record(tenant, name)
        if record:
            return Voice(name, None, record.formant, NeuralVoice(), digest=record.digest)
        if name not in self._packs:
            self._packs = _pack_voices()  # a pack may have been added since
        if name not in self._packs:
            known = ", ".join(sorted({*self._packs, *self.names(tenant)}))
            raise UnknownVoice(f"Known voices: {known}.", field="voice")
        return self._packs[name]

    def names(self, tenant: str) -> list[str]:
        """The voices that the tenant has enrolled, sorted."""
        blobs = self._blobs.names(tenant, VOICES)
        return [name.removesuffix(".json") for name in blobs if name.endswith(".json")]

    def pack_names(self) -> list[str]:
        """The voices of all packs, sorted."""
        return sorted(self._packs)

    def record(self, tenant: str, name: str) -> VoiceRecord | None:
        """An enrolled voice's record. Raises `UnknownVoice` where it is damaged."""
        data = self._get(tenant, f"{name}.json")
        if data is None:
            return None
        try:
            return VoiceRecord.model_validate_json(data)
        except ValidationError as error:
            raise UnknownVoice(f"The record of {name} is damaged; enrol it again.", field="voice") from error

    def keep(self, tenant: str, record: VoiceRecord, recordings: Waveform) -> bool:
        """Enrol a voice, or enrol it anew; what no record needs any more is deleted.

        Whether it had these very recordings before.
        """
        before = self._digest(tenant, record.voice)
        self._blobs.put(tenant, VOICES, f"{record.digest}.wav", wav.encode(recordings), "audio/wav")
        data = record.model_dump_json().encode()
        self._blobs.put(tenant, VOICES, f"{record.voice}.json", data, "application/json")
        if before and before != record.digest:
            self._forget(tenant, before)
        return before == record.digest

    def recordings(self, tenant: str, digest: str) -> Waveform:
        """The recordings of an enrolled voice without silence."""
        data = self._get(tenant, f"{digest}.wav")
        if data is None:
            raise UnknownVoice("Its recordings are gone; enrol it again.", field="voice")
        return wav.decode(data)

    def reference(self, voice: Voice) -> bytes | None:
        """The recording that a pack's voice names, a file in any container; None where it names none."""
        if not voice.neural.reference:
            return None
        return (pack_folder(voice.pack_id) / voice.neural.reference).read_bytes()

    def latents(self, tenant: str, digest: str, version: str) -> bytes | None:
        """What was kept by `keep_latents`."""
        return self._get(tenant, f"{digest}.{version}.safetensors")

    def keep_latents(self, tenant: str, digest: str, version: str, data: bytes) -> None:
        """Keep what the model of that version made of the recordings of that digest."""
        name = f"{digest}.{version}.safetensors"
        self._blobs.put(tenant, VOICES, name, data, "application/octet-stream")

    def _digest(self, tenant: str, name: str) -> str | None:
        """Of an enrolled voice's recordings. A damaged record has none: it must not keep anybody from enrolling."""
        try:
            record = self.record(tenant, name)
        except UnknownVoice:
            return None
        return record.digest if record else None

    def _forget(self, tenant: str, digest: str) -> None:
        if digest in [self._digest(tenant, name) for name in self.names(tenant)]:
            return
        for name in self._blobs.names(tenant, VOICES):
            if name.startswith(f"{digest}.") and not name.endswith(".json"):
                self._blobs.delete(tenant, VOICES, name)

    def _get(self, tenant: str, name: str) -> bytes | None:
        try:
            return self._blobs.get(BlobRef(key=f"{tenant}/{VOICES}/{name}"), tenant=tenant, field="voice")
        except BlobMissing:
            return None


def _pack_voices() -> dict[str, Voice]:
    voices: dict[str, Voice] = {}
    for pack_id in pack_ids():
        try:
            voice = load_pack(pack_id).speaker
        except PackInvalid as error:  # one broken pack must not silence the others
            log.warning("the voice of pack %s is left out: %s", pack_id, error.message)
            continue
        voices[voice.id] = Voice(voice.id, voice.engine, voice.formant, voice.neural, pack=voice, pack_id=pack_id)
    return voices
