"""`maeari ask`: a question to a persona, spoken or written, and its spoken reply."""

from __future__ import annotations

import mimetypes
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.errors import InvalidAudio, InvalidRequest

from .tools import Json, Tenant, Tools, run_job, tools_of

if TYPE_CHECKING:
    from shared.contracts.base import BlobRef
    from shared.contracts.turn import TurnResult

    from .turn import Turn


def ask(
    ctx: typer.Context,
    pack: Annotated[str, typer.Option("--pack", "-p", help="The persona: artist, parent or one of yours.")],
    audio: Annotated[
        Path | None, typer.Option("--audio", "-a", help="The question as a recording, in any format.")
    ] = None,
    text: Annotated[str | None, typer.Option("--text", "-t", help="The question in writing.")] = None,
    session: Annotated[
        str | None, typer.Option("--session", "-s", help="Conversation to go on with; new by default.")
    ] = None,
    speak: Annotated[bool, typer.Option("--speak/--no-speak", help="Speak the reply.")] = True,
    voice: Annotated[str | None, typer.Option("--voice", help="Another voice than the pack's.")] = None,
    adapter: Annotated[str | None, typer.Option("--adapter", help="Another adapter than the pack's.")] = None,
    deadline: Annotated[
        float | None, typer.Option("--deadline", help="Seconds after which to give up.", min=0.1)
    ] = None,
    tenant: Tenant = "default",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the reply's audio.")] = None,
    json: Json = False,
) -> None:
    """Ask a persona and hear its reply, as it comes."""
    tools = tools_of(ctx, json)
    if (audio is None) == (text is None):
        raise InvalidRequest("Give either --audio or --text.", field="audio")
    request: dict[str, Any] = {
        "tenant": tenant,
        "pack": pack,
        "session": session or f"cli-{uuid.uuid4().hex[:8]}",
        "speech": speak,
        **{
            name: value for name, value in (("text", text), ("voice", voice), ("adapter", adapter)) if value is not None
        },
    }
    if audio is not None:
        request["audio"] = upload(tools, audio, tenant).model_dump(exclude_none=True)
    turn, result, merged = run_turn(tools, request, out, deadline_s=deadline)
    conclude(tools, turn, result, merged)


def upload(tools: Tools, path: Path, tenant: str) -> BlobRef:
    """Put a recording into the blob store. Raises `InvalidAudio` when it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidAudio(f"{path} cannot be read: {error.strerror}.", field="audio") from None
    mime = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    suffix = "".join(char for char in path.suffix.lower() if char.isascii() and char.isalnum())
    return tools.store().put(tenant, "audio", f"{uuid.uuid4().hex}.{suffix or 'bin'}", data, mime)


def run_turn(
    tools: Tools, request: dict[str, Any], out: Path | None = None, *, deadline_s: float | None = None
) -> tuple[Turn, TurnResult, Path | None]:
    """Ask, show what comes, write the audio: the turn, its result and the merged audio's file."""
    from shared.contracts.events import Event
    from shared.contracts.turn import TurnResult

    from .show import show_for
    from .turn import Turn

    store, tenant = tools.store(), request["tenant"]
    folder = out or _replies() / uuid.uuid4().hex[:12]
    turn = Turn(
        folder.expanduser().absolute(), lambda ref: store.get(ref, tenant=tenant), transcript=request.get("text", "")
    )
    with show_for(tools, turn) as show:

        def on_event(event: Event) -> None:
            turn.take(event)
            show.update(event)

        _, raw = run_job(tools, "turns.start", request, on_event, deadline_s=deadline_s)
        result = TurnResult.model_validate(raw)
        merged = turn.finish(result)
    return turn, result, merged


def _replies() -> Path:
    from shared.cluster.layout import layout_of
    from shared.settings import settings

    return layout_of(settings().home).replies


def conclude(tools: Tools, turn: Turn, result: TurnResult, merged: Path | None) -> None:
    """What is shown once a turn has ended: figures and files, or the JSON object."""
    from .show import summary, timing_chart
    from .turn import as_json

    if tools.json:
        tools.print_json(as_json(turn, result, merged))
        return
    tools.out.print()
    tools.out.print(timing_chart(result))
    tools.out.print(summary(result))
    if merged is not None:
        tools.say(f"{merged}  ({result.audio_duration_s:.1f} s)", "bold magenta")
        tools.say("  " + " ".join(turn.sentences[seq][1].name for seq in sorted(turn.sentences)), "dim")
    tools.say(f"go on with: maeari ask --pack {result.pack} --session {result.session} --text '…'", "dim")
