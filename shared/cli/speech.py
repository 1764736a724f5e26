"""`maeari transcribe`, `say`, `voice`: the single stages of hearing and speaking."""

from __future__ import annotations

from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .ask import upload
from .tools import Json, Tenant, Tools, run_job, tools_of

if TYPE_CHECKING:
    from shared.contracts.events import Event

voice = typer.Typer(no_args_is_help=True, help="Enrol a voice from recordings; list voices.")


def transcribe(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording, in any format.")],
    language: Annotated[str | None, typer.Option("--language", "-l", help="ko or en; detected by default.")] = None,
    words: Annotated[bool, typer.Option("--words", help="Time every word.")] = False,
    tenant: Tenant = "default",
    json: Json = False,
) -> None:
    """Turn a recording into text."""
    from shared.contracts.speech import Transcript

    tools = tools_of(ctx, json)
    request: dict[str, Any] = {"tenant": tenant, "audio": upload(tools, file, tenant).model_dump(exclude_none=True)}
    request["word_timestamps"] = words
    if language is not None:
        request["language"] = language
    job_id, result = run_job(tools, "stt.transcribe", request)
    if tools.json:
        tools.print_json({"job_id": job_id, **result})
        return
    transcript = Transcript.model_validate(result)
    tools.say(transcript.text)
    if words:
        for segment in transcript.segments:
            for word in segment.words:
                tools.say(f"{word.start:8.2f} {word.end:7.2f}  {word.text.strip()}", "dim")
    if tools.out.is_terminal:
        tools.hint(f"{transcript.language}, {transcript.duration_s:.1f} s of audio in {transcript.engine_ms:.0f} ms")


def say(
    ctx: typer.Context,
    text: Annotated[str, typer.Argument(help="What to say.")],
    voice: Annotated[str, typer.Option("--voice", "-v", help="A pack's voice or an enrolled one.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="WAV file to write.")],
    language: Annotated[str, typer.Option("--language", "-l", help="ko or en.")] = "ko",
    engine: Annotated[str | None, typer.Option("--engine", help="formant or neural.")] = None,
    speed: Annotated[float, typer.Option("--speed", help="0.5 to 2.")] = 1.0,
    tenant: Tenant = "default",
    json: Json = False,
) -> None:
    """Speak a text into a WAV file."""
    from shared.contracts.speech import Speech

    tools = tools_of(ctx, json)
    request: dict[str, Any] = {"tenant": tenant, "text": text, "voice": voice, "language": language, "speed": speed}
    if engine is not None:
        request["engine"] = engine

    def on_event(event: Event) -> None:
        if event.type == "audio" and not tools.json and tools.out.is_terminal:
            tools.hint(f"♪ {event.sentence + 1}  {event.duration_s:.1f} s  {event.text}")

    job_id, result = run_job(tools, "tts.synthesize", request, on_event)
    speech = Speech.model_validate(result)
    path = out.expanduser().absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tools.store().get(speech.audio, tenant=tenant))
    if tools.json:
        tools.print_json({"job_id": job_id, "file": str(path), **result})
    else:
        tools.say(f"{path}  ({speech.duration_s:.1f} s, {speech.voice}, {speech.engine.name})")


@voice.command("enrol")
def enrol(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the voice is to be called.")],
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Recordings of the speaker, 6 s or more in all.")
    ],
    language: Annotated[str, typer.Option("--language", "-l", help="ko or en.")] = "ko",
    tenant: Tenant = "default",
    json: Json = False,
) -> None:
    """Learn a speaker's voice from recordings."""
    from shared.contracts.speech import VoiceProfile

    tools = tools_of(ctx, json)
    refs = [upload(tools, path, tenant).model_dump(exclude_none=True) for path in files]
    request = {"tenant": tenant, "voice": name, "audio": refs, "language": language}
    job_id, result = run_job(tools, "tts.enrol", request)
    if tools.json:
        tools.print_json({"job_id": job_id, **result})
        return
    profile = VoiceProfile.model_validate(result)
    known = "; these recordings were known already" if profile.cached else ""
    tools.say(f"{profile.voice} is enrolled from {profile.duration_s:.1f} s of speech ({profile.engine.name}){known}.")
    tools.say(f"Try it: maeari say '안녕하세요.' --voice {profile.voice} --out hello.wav", "dim")


@voice.command("list")
def list_(ctx: typer.Context, tenant: Tenant = "default", json: Json = False) -> None:
    """The voices that a tenant can use: those of the packs and those that it has enrolled."""
    from .render import plain_table

    tools = tools_of(ctx, json)
    voices = [*_of_packs(), *_enrolled(tools, tenant)]
    if tools.json:
        tools.print_json(voices)
        return
    table = plain_table(("voice", "left"), ("from", "left"), ("language", "left"), ("recordings", "right"))
    for found in voices:
        seconds = f"{found['duration_s']:.1f} s" if found["duration_s"] is not None else ""
        table.add_row(found["voice"], found["from"], found["language"], seconds)
    tools.out.print(table)


def _of_packs() -> list[dict[str, Any]]:
    from shared.packs import load_pack, pack_ids

    speakers = [(pack, load_pack(pack).speaker) for pack in pack_ids()]
    return [_voice(voice.id, f"pack {pack}", voice.language, None) for pack, voice in speakers]


def _enrolled(tools: Tools, tenant: str) -> list[dict[str, Any]]:
    from shared.blobs import VOICES
    from shared.contracts.base import BlobRef

    store = tools.store()
    records = [name for name in store.names(tenant, VOICES) if name.endswith(".json")]
    read = [loads(store.get(BlobRef(key=f"{tenant}/{VOICES}/{name}"), tenant=tenant)) for name in records]
    return [_voice(one["voice"], "enrolled", one["language"], one["duration_s"]) for one in read]


def _voice(name: str, origin: str, language: str, duration_s: float | None) -> dict[str, Any]:
    return {"voice": name, "from": origin, "language": language, "duration_s": duration_s}
