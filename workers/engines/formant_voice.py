"""Speech by espeak-ng: intelligible Korean and English on any CPU, without weights.

The text reaches the program on its standard input alone; nothing of it is ever part of a command.
"""

from __future__ import annotations

import contextlib
import subprocess
import time

from shared.contracts.base import EngineInfo
from shared.contracts.pack import FormantVoice
from shared.errors import ConfigurationInvalid, EngineFailed, JobCancelled
from shared.protocols import Stop
from workers.audio import SPEECH_RATE, Samples, from_pcm, resample

PROGRAM = "espeak-ng"
TIMEOUT_S = 20.0
"""Seconds that one sentence may take; some milliseconds are usual."""
_POLL_S = 0.05
_SLOWEST_WPM, _FASTEST_WPM = 80, 450


class FormantSynthesizer:
    """Runs espeak-ng once per sentence. Any number of threads may call it."""

    def __init__(self) -> None:
        """Raises `ConfigurationInvalid` where the program is missing."""
        version = self._run(["--version"], "", Stop()).decode().split(":")[-1].split()[0]
        self.info = EngineInfo(name="formant", model=PROGRAM, version=version)

    def speak(self, text: str, language: str, voice: FormantVoice, *, speed: float, stop: Stop) -> Samples:
        """`text` in `voice`, `speed` times as fast as the voice is; at `SPEECH_RATE`."""
        _, _, colour = voice.variant.partition("+")
        variant = f"{language}+{colour}" if colour else language
        wpm = min(_FASTEST_WPM, max(_SLOWEST_WPM, round(voice.speed_wpm * speed)))
        options = ["-v", variant, "-s", str(wpm), "-p", str(voice.pitch), "-b", "1", "--stdin", "--stdout"]
        rate, samples = _sound(self._run(options, text, stop))
        return resample(samples, rate, SPEECH_RATE)

    def _run(self, options: list[str], text: str, stop: Stop) -> bytes:
        """What the program writes; it is killed when `stop` is set or the time is up."""
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen([PROGRAM, *options], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        except FileNotFoundError as error:
            raise ConfigurationInvalid(f"{PROGRAM} is missing; install it: sudo apt-get install {PROGRAM}") from error
        try:
            output = _communicate(process, text.encode(), stop)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream:
                    with contextlib.suppress(OSError):
                        stream.close()
        if process.returncode != 0:
            raise EngineFailed(f"{PROGRAM} ended with status {process.returncode}.")
        return output


def _communicate(process: subprocess.Popen[bytes], data: bytes, stop: Stop) -> bytes:
    until = time.monotonic() + TIMEOUT_S
    pending: bytes | None = data
    while True:
        if stop.is_set():
            raise JobCancelled
        if time.monotonic() > until:
            raise EngineFailed(f"{PROGRAM} took longer than {TIMEOUT_S:.0f} s.")
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(pending, timeout=_POLL_S)[0]
        pending = None  # what was begun goes on; giving it again is an error


def _sound(file: bytes) -> tuple[int, Samples]:
    """Rate and samples of a WAV whose header was written before its size was known; nothing was said in no bytes."""
    if not file:
        return SPEECH_RATE, from_pcm(b"")
    body = file.find(b"data", 12, 200)
    if not file.startswith(b"RIFF") or body < 0:
        raise EngineFailed(f"{PROGRAM} gave no WAV.")
    return int.from_bytes(file[24:28], "little"), from_pcm(file[body + 8 :])
