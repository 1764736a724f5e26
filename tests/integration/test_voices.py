"""Voices speak and are enrolled: with the real espeak-ng, and with the real XTTS v2 code on the project's tiny weights."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shared import wav
from shared.blobs import Blobs, open_store
from shared.contracts.base import BlobRef
from shared.contracts.speech import EnrolRequest, SynthesizeRequest, VoiceEngine
from shared.errors import ConfigurationInvalid, EngineFailed, InvalidAudio, JobCancelled, TextTooLong, UnknownVoice
from shared.protocols import Stop, Waveform
from shared.settings import Settings, settings
from workers import audio
from workers.engines import formant_voice, neural_voice, voices
from workers.engines.pitch import median_pitch
from workers.engines.voices import Voices

MODEL = settings().models_path / "voice"
TEXT = "오늘도 수고 많았어. 저녁은 먹었니?"
STORY = "안녕하세요. 오늘은 날씨가 참 좋네요. 저녁에 같이 산책하러 갈까요? 나는 네가 정말 자랑스러워."


def recording(variant: str = "ko", pitch: int = 50, text: str = STORY) -> bytes:
    """Somebody speaks; about ten seconds."""
    command = ["espeak-ng", "-v", variant, "-p", str(pitch), "-s", "160", "--stdin", "--stdout"]
    return subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout


def request(voice: str = "parent", *, engine: VoiceEngine | None = None, **more: object) -> SynthesizeRequest:
    fields = {"text": TEXT, "voice": voice, "engine": engine, "tenant": "acme"} | more
    return SynthesizeRequest.model_validate(fields)


def enrolment(voice: str = "mother", tenant: str = "acme") -> EnrolRequest:
    return EnrolRequest(voice=voice, tenant=tenant, audio=(BlobRef(key=f"{tenant}/audio/x.wav"),))


def say(speaker: Voices, asked: SynthesizeRequest, text: str = TEXT) -> Waveform:
    return speaker.synthesize(asked, text, stop=Stop())[0]


def pitch_of(waveform: Waveform) -> float:
    hz = median_pitch(audio.from_pcm(waveform.pcm), waveform.sample_rate)
    assert hz is not None
    return hz


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return open_store((tmp_path / "blobs").as_uri())


@pytest.fixture
def formant(blobs: Blobs, tmp_path: Path) -> Voices:
    """A machine without weights."""
    return Voices(blobs, tmp_path / "no model here")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Voices]:
    """A machine with weights; loading them is the slow part."""
    speaker = Voices(open_store((tmp_path_factory.mktemp("store") / "blobs").as_uri()), MODEL)
    yield speaker
    speaker.close()


@pytest.fixture
def neural(loaded: Voices, blobs: Blobs) -> Voices:
    """The loaded machine over an empty store, as it is after a restart."""
    loaded._book = voices.VoiceBook(blobs)
    loaded._latents.clear()
    return loaded


class TestFormant:
    def test_a_sentence_is_spoken_at_the_common_rate(self, formant: Voices) -> None:
        waveform, info = formant.synthesize(request(), TEXT, stop=Stop())
        assert waveform.sample_rate == 24_000
        assert 2 < waveform.duration_s < 8
        assert np.abs(audio.from_pcm(waveform.pcm)).max() > 0.05
        assert (info.name, info.model) == ("formant", "espeak-ng")
        assert info == formant.info

    def test_each_pack_has_its_own_voice(self, formant: Voices) -> None:
        assert pitch_of(say(formant, request("artist"))) != pytest.approx(
            pitch_of(say(formant, request("parent"))), rel=0.04
        )

    def test_speed_is_heard(self, formant: Voices) -> None:
        slow, fast = (say(formant, request(speed=speed)).duration_s for speed in (0.7, 1.6))
        assert slow > 1.5 * fast

    def test_numbers_are_spoken_as_words(self, formant: Voices) -> None:
        assert say(formant, request(), "사과 3개") == say(formant, request(), "사과 세 개")

    def test_english_is_spoken_by_a_korean_voice(self, formant: Voices) -> None:
        assert say(formant, request(language="en"), "Good evening.").duration_s > 0.5

    def test_the_text_is_never_a_command_an_option_or_markup(self, formant: Voices, tmp_path: Path) -> None:
        trap = tmp_path / "trap"
        for text in (f"--path={trap}", f"; touch {trap}", f"$(touch {trap})", f"-w{trap}", f'<audio src="{trap}"/>말'):
            say(formant, request(), text)
        assert not trap.exists()

    @pytest.mark.parametrize("text", ["😊", "...", "~", "ㅠㅠ"])
    def test_what_cannot_be_said_is_a_short_silence(self, formant: Voices, text: str) -> None:
        waveform = say(formant, request(), text)
        assert waveform == audio.silence(voices.NOTHING_SAID_S, 24_000)

    def test_two_hundred_thousand_characters_do_not_hang_it(
        self, formant: Voices, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(formant_voice, "TIMEOUT_S", 0.3)
        with pytest.raises(EngineFailed, match="took longer than"):
            say(formant, request(), "가나다라마바사 " * 25_000)

    def test_a_cancelled_job_ends_the_program(self, formant: Voices) -> None:
        stop = Stop()
        threading.Timer(0.2, stop.set).start()
        with pytest.raises(JobCancelled):
            formant.synthesize(request(), "가나다라마바사 " * 50_000, stop=stop)

    def test_a_machine_without_the_program_is_told_how_to_mend_it(
        self, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(formant_voice, "PROGRAM", "no-such-program")
        with pytest.raises(ConfigurationInvalid, match="sudo apt-get install no-such-program"):
            Voices(blobs)

    def test_asking_for_weights_that_are_not_there_is_refused(
        self, formant: Voices, blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(ConfigurationInvalid) as refused:
            say(formant, request(engine="neural"))
        assert refused.value.field == "engine"
        monkeypatch.setattr(voices, "settings", lambda: Settings(voice_engine="neural"))
        with pytest.raises(ConfigurationInvalid, match="no voice model"):
            Voices(blobs, tmp_path / "nowhere")

    def test_it_warms_up_and_closes(self, formant: Voices) -> None:
        formant.warm_up()
        formant.close()
        assert not formant.dead.is_set()


class TestUnknown:
    def test_an_unknown_voice_is_named_with_those_that_are_known(self, formant: Voices) -> None:
        formant.enrol(enrolment(), [recording()], stop=Stop())
        with pytest.raises(UnknownVoice, match="artist, mother, parent") as refused:
            say(formant, request("nobody"))
        assert refused.value.field == "voice"

    def test_another_tenants_voice_is_unknown(self, formant: Voices) -> None:
        formant.enrol(enrolment(tenant="family"), [recording()], stop=Stop())
        with pytest.raises(UnknownVoice) as refused:
            say(formant, request("mother"))
        assert "mother" not in refused.value.message


class TestEnrolment:
    @pytest.mark.parametrize(("variant", "pitch"), [("ko", 40), ("ko", 85), ("ko+f2", 40), ("ko+f4", 90)])
    def test_the_formant_voice_is_as_high_as_the_recordings(self, formant: Voices, variant: str, pitch: int) -> None:
        source = recording(variant, pitch)
        formant.enrol(enrolment(), [source], stop=Stop())
        heard = median_pitch(audio.decode(source, 24_000, max_s=60), 24_000)
        assert pitch_of(say(formant, request("mother"), STORY)) == pytest.approx(heard, rel=0.12)

    def test_the_profile_says_what_was_kept(self, formant: Voices, blobs: Blobs) -> None:
        profile = formant.enrol(enrolment(), [recording(), recording("ko", 55)], stop=Stop())
        assert 17 < profile.duration_s < 22
        assert (profile.voice, profile.cached, profile.engine.name) == ("mother", False, "formant")
        assert blobs.names("acme", "voices") == sorted([f"{profile.digest}.wav", "mother.json"])
        assert blobs.names("family", "voices") == []
        assert formant.enrol(enrolment(), [recording(), recording("ko", 55)], stop=Stop()).cached

    def test_less_than_six_seconds_are_refused_with_the_length(self, formant: Voices, blobs: Blobs) -> None:
        short = audio.decode(recording(), 24_000, max_s=60)[: 3 * 24_000]
        padded = np.concatenate([np.zeros(5 * 24_000, np.float32), short, np.zeros(5 * 24_000, np.float32)])
        file = wav.encode(audio.to_waveform(padded, 24_000))
        with pytest.raises(InvalidAudio, match=r"hold [23]\.\d s of sound without silence; at least 6 s") as refused:
            formant.enrol(enrolment(), [file], stop=Stop())
        assert refused.value.field == "audio"
        assert blobs.names("acme", "voices") == []

    def test_short_recordings_are_enough_together(self, formant: Voices) -> None:
        parts = [recording(text="나는 네가 정말 자랑스러워. 오늘도 힘내렴.")] * 3
        assert formant.enrol(enrolment(), parts, stop=Stop()).duration_s > 6

    def test_sound_without_a_voice_is_refused(self, formant: Voices) -> None:
        noise = np.random.default_rng(0).normal(0, 0.1, 8 * 24_000).astype(np.float32)
        with pytest.raises(InvalidAudio, match="No voice"):
            formant.enrol(enrolment(), [wav.encode(audio.to_waveform(noise, 24_000))], stop=Stop())
        with pytest.raises(InvalidAudio, match=r"0\.0 s of sound"):
            formant.enrol(enrolment(), [wav.encode(audio.silence(8, 24_000))], stop=Stop())

    @pytest.mark.parametrize("data", [b"", b"not a recording " * 100])
    def test_what_is_no_sound_is_refused(self, formant: Voices, data: bytes) -> None:
        with pytest.raises(InvalidAudio) as refused:
            formant.enrol(enrolment(), [recording(), data], stop=Stop())
        assert refused.value.field == "audio"

    def test_a_voice_enrolled_anew_leaves_nothing_of_the_old_one(self, formant: Voices, blobs: Blobs) -> None:
        old = formant.enrol(enrolment(), [recording()], stop=Stop())
        formant.enrol(enrolment("aunt"), [recording()], stop=Stop())
        new = formant.enrol(enrolment(), [recording("ko+f2")], stop=Stop())
        assert f"{old.digest}.wav" in blobs.names("acme", "voices")  # the aunt still speaks with it
        formant.enrol(enrolment("aunt"), [recording("ko+f2")], stop=Stop())
        assert blobs.names("acme", "voices") == sorted([f"{new.digest}.wav", "aunt.json", "mother.json"])

    def test_a_damaged_record_is_told_and_enrolling_again_mends_it(self, formant: Voices, blobs: Blobs) -> None:
        formant.enrol(enrolment("aunt"), [recording()], stop=Stop())
        for name in ("mother", "uncle"):
            blobs.put("acme", "voices", f"{name}.json", b"{", "application/json")
        with pytest.raises(UnknownVoice, match="mother is damaged; enrol it again") as refused:
            say(formant, request("mother"))
        assert not refused.value.retryable
        formant.enrol(enrolment(), [recording("ko+f2")], stop=Stop())
        assert say(formant, request("mother"))
        new = formant.enrol(
            enrolment("aunt"), [recording("ko+f2")], stop=Stop()
        )  # beside the uncle's, which no one mends
        assert f"{new.digest}.wav" in blobs.names("acme", "voices")

    def test_a_tenants_own_voice_goes_before_a_packs(self, formant: Voices) -> None:
        before = say(formant, request("parent"))
        formant.enrol(enrolment("parent"), [recording("ko", 30)], stop=Stop())
        assert pitch_of(say(formant, request("parent"))) < 0.7 * pitch_of(before)
        assert say(formant, request("parent", tenant="family")) == before

    def test_a_cancelled_enrolment_keeps_nothing(self, formant: Voices, blobs: Blobs) -> None:
        stop = Stop()
        stop.set()
        with pytest.raises(JobCancelled):
            formant.enrol(enrolment(), [recording()], stop=stop)
        assert blobs.names("acme", "voices") == []


class TestNeural:
    def test_a_pack_speaks_with_the_model(self, neural: Voices) -> None:
        waveform, info = neural.synthesize(request(engine="neural"), "그래.", stop=Stop())
        assert waveform.sample_rate == 24_000
        assert waveform.duration_s > 0.1
        assert (info.name, info.model) == ("neural", "voice")
        assert len(info.version) == 12

    def test_the_same_seed_is_the_same_sound(self, neural: Voices) -> None:
        asked = request(engine="neural", seed=7)
        assert say(neural, asked, "그래.") == say(neural, asked, "그래.")
        assert say(neural, asked, "그래.") != say(neural, request(engine="neural", seed=8), "그래.")

    def test_enrolled_latents_are_computed_once_for_recordings_and_model(self, neural: Voices, blobs: Blobs) -> None:
        first = neural.enrol(enrolment(), [recording()], stop=Stop())
        again = neural.enrol(enrolment(), [recording()], stop=Stop())
        assert (first.cached, again.cached) == (False, True)
        assert neural.enrol(enrolment("aunt"), [recording()], stop=Stop()).cached  # by content, never by name
        assert not neural.enrol(enrolment("aunt"), [recording("ko", 80)], stop=Stop()).cached
        assert f"{first.digest}.{first.engine.version}.safetensors" in blobs.names("acme", "voices")

    def test_latents_of_another_model_version_are_made_anew(self, neural: Voices, blobs: Blobs) -> None:
        profile = neural.enrol(enrolment(), [recording()], stop=Stop())
        name = f"{profile.digest}.{profile.engine.version}.safetensors"
        kept = blobs.get(BlobRef(key=f"acme/voices/{name}"), tenant="acme")
        blobs.put("acme", "voices", f"{profile.digest}.0123456789ab.safetensors", b"of an older model", "x/y")
        blobs.delete("acme", "voices", name)
        neural._latents.clear()
        say(neural, request("mother", engine="neural"), "그래.")
        assert blobs.get(BlobRef(key=f"acme/voices/{name}"), tenant="acme") == kept

    def test_an_enrolled_voice_sounds_unlike_a_packs(self, neural: Voices) -> None:
        neural.enrol(enrolment(), [recording()], stop=Stop())
        pack, own = (say(neural, request(voice, engine="neural"), "그래.") for voice in ("parent", "mother"))
        assert pack != own

    def test_cancellation_takes_effect_within_the_sentence(
        self, neural: Voices, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stop = Stop()
        tokens = 0

        class Counting(neural_voice._Cancelled):
            def __call__(self, *arguments: object, **named: object) -> object:
                nonlocal tokens
                tokens += 1
                if tokens == 3:
                    stop.set()
                return super().__call__(*arguments, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(neural_voice, "_Cancelled", Counting)
        with pytest.raises(JobCancelled):
            neural.synthesize(request(engine="neural"), TEXT, stop=stop)
        assert tokens == 3  # at the very next token
        assert say(neural, request(engine="neural"), "그래.").duration_s > 0.1

    def test_a_text_of_too_many_tokens_is_refused_and_the_next_is_spoken(
        self, neural: Voices, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(neural_voice, "settings", lambda: Settings(tts_max_chars=5000))
        with pytest.raises(TextTooLong) as refused:
            say(neural, request(engine="neural"), "뷁췍쒧꿻뀗 " * 80)
        assert refused.value.field == "text"
        assert say(neural, request(engine="neural"), "그래.").duration_s > 0.1

    def test_a_long_sentence_is_spoken_in_parts(self, neural: Voices, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(neural_voice, "settings", lambda: Settings(tts_max_chars=8))
        whole = say(neural, request(engine="neural"), "가나다라 마바사아")
        assert whole.duration_s > say(neural, request(engine="neural"), "가나다라").duration_s

    def test_texts_never_reach_the_log(self, neural: Voices, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("DEBUG")
        neural._neural_engine()._model.tokenizer.check_input_length("비밀 " * 60, "ko")
        assert "비밀" not in caplog.text

    def test_a_checkpoint_with_a_file_missing_is_named(self, blobs: Blobs, tmp_path: Path) -> None:
        shutil.copytree(MODEL, tmp_path / "model")
        (tmp_path / "model/vocab.json").unlink()
        with pytest.raises(ConfigurationInvalid, match=r"lacks vocab\.json"):
            Voices(blobs, tmp_path / "model")

    def test_it_warms_up(self, neural: Voices) -> None:
        neural.warm_up()
        assert not neural.dead.is_set()
