"""Synthesis: finds the voice, chooses the engine, says the text.

The request's engine goes before the voice's own, and that before the cluster's default. Every engine speaks at
`SPEECH_RATE`, so that the sentences of a reply can be joined.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared.blobs import Blobs, open_store
from shared.contracts.base import EngineInfo
from shared.contracts.speech import EnrolRequest, SynthesizeRequest, VoiceEngine, VoiceProfile
from shared.errors import ConfigurationInvalid, InvalidAudio, JobCancelled
from shared.protocols import Stop, Waveform
from shared.settings import settings
from workers import audio
from workers.audio import SPEECH_RATE, Samples

from .formant_voice import FormantSynthesizer
from .pitch import formant_voice, median_pitch
from .spoken_text import speakable
from .voice_book import Voice, VoiceBook, VoiceRecord

if TYPE_CHECKING:
    from .neural_voice import Latents, NeuralSynthesizer

MIN_RECORDINGS_S = 6.0
"""Seconds of sound, silence at the ends not counted, that a voice is made from at least."""
REFERENCE_S = 60
"""Seconds of recordings that are kept; the models listen to no more."""
NOTHING_SAID_S = 0.2
"""Seconds of silence for a text without anything to say, an emoji for instance."""
LATENTS_KEPT = 64
"""Voices whose latents stay in memory, some 12 kB each."""
_WARM_UP = "안녕하세요."


class Voices:
    """The `Synthesizer` of a worker: espeak-ng always, XTTS v2 where its weights are."""

    def __init__(self, blobs: Blobs | None = None, model: Path | None = None) -> None:
        """`blobs` and `model` (a checkpoint folder): those of the settings unless given.

        Raises `ConfigurationInvalid` where the settings ask for the neural engine and there is no checkpoint.
        """
        self._book = VoiceBook(blobs or open_store(settings().blobs))
        self._folder = model or Path(settings().model(settings().tts_model))
        self._formant = FormantSynthesizer()
        self._neural: NeuralSynthesizer | None = None
        self._latents: dict[tuple[str, str], Latents] = {}
        self._loading = threading.Lock()
        self._sound = threading.Event()
        if settings().voice_engine == "neural" and not self._has_neural:
            raise ConfigurationInvalid(f"There is no voice model in {self._folder}.", field="tts_model")
        if settings().tts_preload and self._has_neural:
            self._neural_engine()

    # --- what every engine can do ---

    @property
    def info(self) -> EngineInfo:
        """The engine that speaks by default."""
        return self._info(settings().voice_engine)

    @property
    def dead(self) -> threading.Event:
        """Set when the neural engine's device has failed for good."""
        return self._neural.dead if self._neural else self._sound

    def warm_up(self) -> None:
        """Say a word with every engine that is loaded."""
        names = self._book.pack_names()
        for engine in ("formant", "neural") if self._neural else ("formant",):
            for name in names[:1]:
                request = SynthesizeRequest(text=_WARM_UP, voice=name, engine=engine)
                self.synthesize(request, _WARM_UP, stop=Stop())

    def close(self) -> None:
        """Free the model."""
        self._neural = None
        self._latents.clear()

    # --- speaking ---

    def synthesize(self, request: SynthesizeRequest, text: str, *, stop: Stop) -> tuple[Waveform, EngineInfo]:
        """One sentence in the request's voice. Raises `UnknownVoice`."""
        voice = self._book.find(request.tenant, request.voice)
        engine = self._choose(request, voice)
        if stop.is_set():
            raise JobCancelled
        words = speakable(text, request.language)
        if not words:
            return audio.silence(NOTHING_SAID_S, SPEECH_RATE), self._info(engine)
        if engine == "formant":
            samples = self._formant.speak(words, request.language, voice.formant, speed=request.speed, stop=stop)
        else:
            samples = self._neural_engine().speak(
                words,
                request.language,
                self._latents_of(request.tenant, voice, stop),
                voice.neural,
                speed=request.speed,
                seed=request.seed,
                stop=stop,
            )
        return audio.to_waveform(samples, SPEECH_RATE), self._info(engine)

    def _choose(self, request: SynthesizeRequest, voice: Voice) -> VoiceEngine:
        engine = request.engine or voice.engine or settings().voice_engine
        if engine == "neural" and not self._has_neural:
            if request.engine:
                raise ConfigurationInvalid("This cluster has no neural voice model.", field="engine")
            return "formant"
        return engine

    def _info(self, engine: VoiceEngine) -> EngineInfo:
        return self._neural_engine().info if engine == "neural" else self._formant.info

    @property
    def _has_neural(self) -> bool:
        return (self._folder / "model.pth").is_file()

    def _neural_engine(self) -> NeuralSynthesizer:
        with self._loading:
            if self._neural is None:
                from .neural_voice import NeuralSynthesizer

                self._neural = NeuralSynthesizer(self._folder, settings().tts_device)
            return self._neural

    # --- latents ---

    def _latents_of(self, tenant: str, voice: Voice, stop: Stop) -> Latents:
        """From memory, from the store, or made now."""
        key = (tenant, voice.digest) if voice.digest else ("", voice.name)
        found = self._latents.get(key)
        if found is None:
            if voice.digest:
                found, _ = self._stored_latents(tenant, voice.digest)
            else:
                found = self._neural_engine().latents(self._pack_reference(voice, stop), SPEECH_RATE)
            self._remember(key, found)
        return found

    def _remember(self, key: tuple[str, str], latents: Latents) -> None:
        while len(self._latents) >= LATENTS_KEPT:
            self._latents.pop(next(iter(self._latents)), None)
        self._latents[key] = latents

    def _stored_latents(self, tenant: str, digest: str) -> tuple[Latents, bool]:
        """The latents of enrolled recordings, and whether they had been computed before."""
        from .neural_voice import Latents

        engine = self._neural_engine()
        data = self._book.latents(tenant, digest, engine.info.version)
        if data is not None:
            return Latents.from_bytes(data), True
        recordings = self._book.recordings(tenant, digest)
        made = engine.latents(audio.from_pcm(recordings.pcm), recordings.sample_rate)
        self._book.keep_latents(tenant, digest, engine.info.version, made.to_bytes())
        return made, False

    def _pack_reference(self, voice: Voice, stop: Stop) -> Samples:
        """The pack's recording, else enough of its own formant voice to have a voice at all."""
        file = self._book.reference(voice)
        if file is not None:
            return audio.decode(file, SPEECH_RATE, max_s=settings().audio_max_s)
        assert voice.pack is not None
        pack = voice.pack
        words = speakable(pack.sample_text, pack.language)
        once = self._formant.speak(words, pack.language, voice.formant, speed=1.0, stop=stop)
        return np.tile(once, int(MIN_RECORDINGS_S * SPEECH_RATE // len(once)) + 1)

    # --- enrolment ---

    def enrol(self, request: EnrolRequest, recordings: Sequence[bytes], *, stop: Stop) -> VoiceProfile:
        """Compute and keep a voice of the tenant from recordings (files in any container).

        The formant engine takes their pitch, the neural engine everything. Raises `InvalidAudio` for less than
        `MIN_RECORDINGS_S` seconds and for sound without a voice.
        """
        began = time.perf_counter()
        sound, seconds = _heard(recordings, stop)
        pitch = median_pitch(sound, SPEECH_RATE)
        if pitch is None:
            raise InvalidAudio("No voice can be heard in the recordings.", field="audio")
        record = VoiceRecord(
            voice=request.voice,
            digest=_digest(recordings),
            language=request.language,
            duration_s=round(seconds, 3),
            formant=formant_voice(pitch, request.language),
        )
        cached = self._book.keep(request.tenant, record, audio.to_waveform(sound, SPEECH_RATE))
        if self._has_neural:
            latents, cached = self._stored_latents(request.tenant, record.digest)
            self._remember((request.tenant, record.digest), latents)
        return VoiceProfile(
            voice=record.voice,
            digest=record.digest,
            duration_s=record.duration_s,
            cached=cached,
            engine_ms=round((time.perf_counter() - began) * 1000, 2),
            engine=self._info("neural" if self._has_neural else "formant"),
        )


def _heard(recordings: Sequence[bytes], stop: Stop) -> tuple[Samples, float]:
    """The recordings one after the other without the silence at their ends, and the seconds of it all."""
    pieces = []
    for recording in recordings:
        if stop.is_set():
            raise JobCancelled
        sound = audio.decode(recording, SPEECH_RATE, max_s=settings().audio_max_s)
        pieces.append(audio.trim(sound, SPEECH_RATE))
    joined: Samples = np.concatenate(pieces)
    seconds = len(joined) / SPEECH_RATE
    if seconds < MIN_RECORDINGS_S:
        needed = f"at least {MIN_RECORDINGS_S:.0f} s are needed"
        raise InvalidAudio(f"The recordings hold {seconds:.1f} s of sound without silence; {needed}.", field="audio")
    return joined[: REFERENCE_S * SPEECH_RATE], seconds


def _digest(recordings: Sequence[bytes]) -> str:
    """SHA-256 over the recordings' own digests, so that where one ends counts as well."""
    whole = hashlib.sha256()
    for recording in recordings:
        whole.update(hashlib.sha256(recording).digest())
    return whole.hexdigest()
