"""`maeari demo`: from nothing to spoken answers, with one command."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from array import array
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from shared.errors import ConfigurationInvalid, EngineFailed

from .ask import conclude, run_turn, upload
from .start import ensure_up
from .tools import Json, Tools, tools_of

if TYPE_CHECKING:
    from shared.contracts.turn import TurnResult

    from .turn import Turn

FIRST, SECOND = "artist", "parent"
"""Packs that are asked; the second at once with a further question to the first."""

LEAST_PEAK = 300
"""Loudest sample (of 32767) below which a file counts as silent."""

LEAST_S = 0.2
"""Seconds of audio that a reply has at least."""


@dataclass(frozen=True)
class Question:
    """A spoken question."""

    pack: str
    text: str
    recording: Path


def demo(ctx: typer.Context, json: Json = False) -> None:
    """Start the cluster, ask both personas aloud, and hear them."""
    tools = tools_of(ctx, json)
    quiet = replace(tools, json=False, out=tools.err) if json else tools
    ensure_up(quiet)
    first, second, also = _questions()
    done = [_asked(tools, first)]
    _headline(tools, second, f", while {also.pack} is asked “{also.text}”")
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(_turn, replace(tools, json=True), also)
        done.append(_turn(tools, second))
        _show(tools, done[-1])
        done.append(beside.result())
    _headline(tools, also, ", asked at the same time")
    _show(tools, done[-1], whole=True)
    for turn, result, merged in done:
        check_sound(turn, result, merged)
    _end(tools, done)


def _asked(tools: Tools, question: Question) -> tuple[Turn, TurnResult, Path | None]:
    _headline(tools, question, "")
    ended = _turn(tools, question)
    _show(tools, ended)
    return ended


def _headline(tools: Tools, question: Question, more: str) -> None:
    tools.say(f"\n{question.pack}, asked “{question.text}”{more}", "bold")
    tools.say(f"{question.recording}", "dim")


def _turn(tools: Tools, question: Question) -> tuple[Turn, TurnResult, Path | None]:
    request: dict[str, Any] = {
        "tenant": "default",
        "pack": question.pack,
        "session": f"demo-{uuid.uuid4().hex[:8]}",
        "audio": upload(tools, question.recording, "default").model_dump(exclude_none=True),
    }
    return run_turn(tools, request)


def _show(tools: Tools, ended: tuple[Turn, TurnResult, Path | None], *, whole: bool = False) -> None:
    from .show import body

    if tools.json:
        return
    if whole:
        tools.out.print(body(ended[0]))
    conclude(tools, *ended)


def _end(tools: Tools, done: list[tuple[Turn, TurnResult, Path | None]]) -> None:
    from .turn import as_json

    if tools.json:
        tools.print_json({"turns": [as_json(*ended) for ended in done]})
        return
    tools.say("\nThe cluster stays up. Stop it: maeari down", "bold")


def _questions() -> tuple[Question, Question, Question]:
    from shared.cluster.layout import layout_of
    from shared.packs import load_pack, sample_questions
    from shared.settings import settings

    folder = layout_of(settings().home).demo
    folder.mkdir(parents=True, exist_ok=True)
    texts = {pack: sample_questions(load_pack(pack)) for pack in (FIRST, SECOND)}
    chosen = ((FIRST, texts[FIRST][0], "1"), (SECOND, texts[SECOND][0], "1"), (FIRST, texts[FIRST][-1], "2"))
    first, second, third = (Question(pack, text, speak(text, folder / f"{pack}-{n}.wav")) for pack, text, n in chosen)
    return first, second, third


def speak(text: str, path: Path) -> Path:
    """A Korean text as a recording, by espeak-ng. Raises `ConfigurationInvalid` without one."""
    program = shutil.which("espeak-ng")
    if program is None:
        raise ConfigurationInvalid(
            "espeak-ng is not on PATH; the demo speaks its questions with it. apt-get install espeak-ng"
        )
    ran = subprocess.run(
        [program, "-v", "ko", "-s", "150", "-w", str(path), "--", text],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if ran.returncode or not path.is_file():
        raise EngineFailed(f"espeak-ng could not write {path}: {ran.stderr.strip()[-200:]}")
    return path


def check_sound(turn: Turn, result: TurnResult, merged: Path | None) -> None:
    """Raise `EngineFailed` unless the reply was spoken into files that hold sound."""
    if not result.reply.strip():
        raise EngineFailed(f"{result.pack} said nothing.")
    if merged is None:
        raise EngineFailed(f"{result.pack}'s reply was not spoken.")
    for path in (merged, *(path for _, path, _ in turn.sentences.values())):
        seconds, peak = loudness(path)
        if seconds < LEAST_S or peak < LEAST_PEAK:
            raise EngineFailed(f"{path} holds no sound ({seconds:.1f} s, peak {peak}).")


def loudness(path: Path) -> tuple[float, int]:
    """Seconds and loudest sample of a 16-bit WAV file."""
    from shared import wav

    waveform = wav.decode(path.read_bytes())
    samples = array("h", waveform.pcm)
    return waveform.duration_s, max((abs(sample) for sample in samples), default=0)
