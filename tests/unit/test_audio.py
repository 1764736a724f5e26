"""Sound comes out of any container; what is not sound is refused in words, and nothing else is ever opened."""

from __future__ import annotations

import os
import random
import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import wav
from shared.errors import AudioTooLong, InvalidAudio
from shared.protocols import Waveform
from workers import audio

RATE = 16_000
TONE_HZ = 440
CONTAINERS = {
    "wav": [],
    "mp3": [],
    "ogg": ["-c:a", "libvorbis"],
    "opus": ["-c:a", "libopus"],
    "webm": ["-c:a", "libopus"],
    "matroska": [],
    "flac": [],
    "adts": [],
    "au": [],
    "ipod": ["-movflags", "frag_keyframe+empty_moov"],  # m4a
}


def ffmpeg(container: str, *options: str, seconds: float = 2.0, rate: int = 44_100, channels: int = 2) -> bytes:
    """A tone in the container, by a program that is not the one under test."""
    tone = f"sine={TONE_HZ}:d={seconds}:r={rate}"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", tone, "-ac", str(channels), *options]
    return subprocess.run([*command, "-f", container, "pipe:1"], capture_output=True, check=True).stdout


def sized_wav(seconds: float = 2.0, rate: int = RATE) -> bytes:
    """A tone with honest sizes in its header."""
    return wav.encode(audio.to_waveform(tone(seconds, rate), rate))


def tone(seconds: float, rate: int, level: float = 0.5) -> audio.Samples:
    t = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * TONE_HZ * t)).astype(np.float32)


def loudest_hz(samples: audio.Samples, rate: int) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * rate / len(samples))


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_usual_container_is_read(container: str) -> None:
    samples = audio.decode(ffmpeg(container, *CONTAINERS[container]), RATE, max_s=10)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(2.0 * RATE, rel=0.06)
    assert loudest_hz(samples, RATE) == pytest.approx(TONE_HZ, abs=3)


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (22_050, 1), (44_100, 2), (48_000, 6)])
def test_any_rate_and_any_number_of_channels_become_mono(rate: int, channels: int) -> None:
    samples = audio.decode(ffmpeg("wav", rate=rate, channels=channels), 24_000, max_s=10)
    assert len(samples) == pytest.approx(48_000, rel=0.01)
    assert loudest_hz(samples, 24_000) == pytest.approx(TONE_HZ, abs=3)


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s24le", "pcm_f32le", "pcm_alaw"])
def test_every_sample_format_of_wav_is_read(codec: str) -> None:
    samples = audio.decode(ffmpeg("wav", "-c:a", codec), RATE, max_s=10)
    assert loudest_hz(samples, RATE) == pytest.approx(TONE_HZ, abs=3)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"RIFF", "not sound"),
        (b"This is a text file that someone named question.wav.\n" * 40, "not sound"),
        ("질문입니다. ".encode() * 400, "not sound"),
        (bytes(5000), "not sound"),
        (os.urandom(20_000), "not sound"),
        (sized_wav()[:30], "not sound"),
        (sized_wav()[:20_000], "cut off: its header promises 64000 bytes of sound, it holds 19956"),
        (sized_wav(0.05), r"lasts 0\.05 s"),
        (wav.encode(Waveform(b"", RATE)), "not sound|lasts 0.00 s"),
    ],
    ids=["empty", "riff", "text", "korean", "zeros", "noise", "header", "truncated", "short", "nothing"],
)
def test_what_is_not_sound_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidAudio, match=reason) as refused:
        audio.decode(data, RATE, max_s=10)
    assert (refused.value.code, refused.value.field) == ("invalid_audio", "audio")


def test_a_film_without_sound_is_refused() -> None:
    command = "ffmpeg -v error -f lavfi -i color=black:d=1:s=16x16:r=5 -f matroska pipe:1"
    film = subprocess.run(command.split(), capture_output=True, check=True).stdout
    with pytest.raises(InvalidAudio, match="no sound"):
        audio.decode(film, RATE, max_s=10)


@pytest.mark.parametrize("container", ["wav", "mp3", "flac"])
def test_sound_over_the_limit_is_refused(container: str) -> None:
    data = ffmpeg(container)
    assert len(audio.decode(data, RATE, max_s=2.2)) > 0
    with pytest.raises(AudioTooLong, match=r"limit is 1\.5 s") as refused:
        audio.decode(data, RATE, max_s=1.5)
    assert refused.value.field == "audio"


def test_half_an_hour_is_refused_without_being_decoded_to_the_end() -> None:
    data = ffmpeg("flac", seconds=1800, rate=8000, channels=1)
    tracemalloc.start()
    with pytest.raises(AudioTooLong):
        audio.decode(data, RATE, max_s=10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 1024 * 1024


def test_a_header_that_lies_about_its_rate_does_not_fill_the_memory() -> None:
    data = bytearray(sized_wav(60))
    data[24:28] = (1).to_bytes(4, "little")  # one sample a second: 960,000 s
    with pytest.raises(AudioTooLong):
        audio.decode(bytes(data), RATE, max_s=300)


def test_a_wav_written_to_a_pipe_is_read_though_its_size_is_not_known() -> None:
    data = ffmpeg("wav")
    assert data[4:8] == b"\xff\xff\xff\xff"
    assert len(audio.decode(data, RATE, max_s=10)) == pytest.approx(2 * RATE, rel=0.01)


def test_a_few_damaged_packets_are_skipped() -> None:
    data = bytearray(ffmpeg("mp3"))
    data[9000:9400] = os.urandom(400)
    assert len(audio.decode(bytes(data), RATE, max_s=10)) == pytest.approx(2 * RATE, rel=0.15)


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {}\n",
        "<?xml version='1.0'?><MPD><Period><AdaptationSet><BaseURL>{}</BaseURL></AdaptationSet></Period></MPD>",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\na={}\n",
    ],
    ids=["hls", "concat", "dash", "sdp"],
)
def test_a_playlist_opens_nothing(tmp_path: Path, playlist: str) -> None:
    (tmp_path / "secret.wav").write_bytes(sized_wav())
    for target in (str(tmp_path / "secret.wav"), "http://127.0.0.1:9/secret.wav"):
        with pytest.raises(InvalidAudio):
            audio.decode(playlist.format(target).encode(), RATE, max_s=10)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), container=st.sampled_from(["wav", "mp3", "ogg", "webm", "flac", "ipod"]))
def test_damage_ends_in_sound_or_in_a_reason(seed: int, container: str) -> None:
    rng = random.Random(seed)
    data = bytearray(_undamaged(container))
    for _ in range(rng.randrange(1, 200)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    try:
        samples = audio.decode(bytes(data[: rng.randrange(1, len(data))]), RATE, max_s=10)
    except InvalidAudio:
        return
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= 1.0


_files: dict[str, bytes] = {}


def _undamaged(container: str) -> bytes:
    if container not in _files:
        _files[container] = ffmpeg(container, *CONTAINERS[container], seconds=0.5)
    return _files[container]


def test_floats_beyond_all_bounds_are_tamed() -> None:
    command = ["ffmpeg", "-v", "error", "-f", "f32le", "-ar", "16000", "-i", "pipe:0", "-c:a", "pcm_f32le"]
    wild = np.array([np.nan, np.inf, -np.inf, 9.0, 0.5] * 1000, np.float32).tobytes()
    data = subprocess.run([*command, "-f", "wav", "pipe:1"], input=wild, capture_output=True, check=True).stdout
    samples = audio.decode(data, RATE, max_s=10)
    assert np.abs(samples).max() <= 1.0


def test_pcm_and_samples_are_the_same_sound() -> None:
    samples = tone(0.5, RATE)
    waveform = audio.to_waveform(samples, RATE)
    assert waveform.duration_s == 0.5
    assert np.abs(audio.from_pcm(waveform.pcm) - samples).max() < 1e-4
    assert audio.from_pcm(b"\x00\x40\x01") == pytest.approx([0.5])
    loud = audio.to_waveform(np.array([2.0, -2.0], np.float32), RATE)
    assert loud.pcm == b"\xff\x7f\x01\x80"


def test_resampling_keeps_length_and_pitch() -> None:
    up = audio.resample(tone(1.0, 22_050), 22_050, 24_000)
    assert len(up) == pytest.approx(24_000, abs=40)
    assert loudest_hz(up, 24_000) == pytest.approx(TONE_HZ, abs=2)
    assert audio.resample(up, 24_000, 24_000) is up


def test_silence_is_silent_and_as_long_as_asked() -> None:
    quiet = audio.silence(0.25, RATE)
    assert quiet.duration_s == 0.25
    assert not any(quiet.pcm)


def test_trimming_takes_silence_at_the_ends_only() -> None:
    hum = np.random.default_rng(0).normal(0, 0.001, RATE).astype(np.float32)
    pause = np.zeros(RATE, np.float32)
    sound = np.concatenate([hum, tone(1, RATE), pause, tone(1, RATE), hum])
    assert len(audio.trim(sound, RATE)) == pytest.approx(3 * RATE, abs=RATE // 20)
    assert len(audio.trim(pause, RATE)) == 0
    assert len(audio.trim(pause[:10], RATE)) == 0
