"""How a turn looks: while it goes on, and at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from rich.console import Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from shared.contracts.events import Event
from shared.contracts.turn import StageTiming, TurnResult

from .turn import Turn

if TYPE_CHECKING:
    from types import TracebackType

    from .tools import Tools

BAR = 44
"""Characters of the longest timing bar."""

_COLOURS = {"turns": "blue", "stt": "cyan", "rag": "yellow", "llm": "green", "tts": "magenta"}


def _said(label: str, text: str, style: str) -> RenderableType:
    return _grid(label, Text(text, style=style))


def question(turn: Turn) -> RenderableType:
    """What was understood."""
    return _said("you", turn.transcript, "bold")


def context(turn: Turn) -> RenderableType:
    """What the persona was reminded of."""
    lines = Text(no_wrap=True, overflow="ellipsis")
    for place, source in enumerate(turn.sources):
        lines.append(("\n" if place else "") + f"{source.document} ", "yellow")
        lines.append(f"{source.score:.2f} ", "dim")
        lines.append(" ".join(source.text.split()).lstrip("# "), "dim")
    return _grid("context", lines)


def _grid(label: str, body: Text) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="dim", width=8, no_wrap=True)
    grid.add_column(ratio=1, overflow="fold")  # else wide letters that just fit are cut off
    grid.add_row(label, body)
    return grid


def reply(turn: Turn) -> RenderableType:
    """What the persona says."""
    return _said("reply", turn.reply, "green")


def audio(turn: Turn) -> RenderableType:
    """Which sentences can be played."""
    total = sum(seconds for _, _, seconds in turn.sentences.values())
    marks = " ".join(f"♪{seq + 1}" for seq in sorted(turn.sentences))
    return _said("audio", f"{marks}  {total:.1f} s", "magenta")


def body(turn: Turn) -> RenderableType:
    """Everything that is known."""
    parts = [question(turn)] if turn.transcript else []
    parts += [context(turn)] if turn.sources else []
    parts += [reply(turn)] if turn.reply else []
    parts += [audio(turn)] if turn.sentences else []
    return Group(*parts)


def timing_chart(result: TurnResult) -> RenderableType:
    """One bar per stage on the turn's time line: light while it waits, full while it works."""
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    end = max([result.total_ms, *(timing.finished_at for timing in result.timings), 1.0])
    for timing in sorted(result.timings, key=lambda t: (t.started_at, t.seq or 0)):
        name = timing.stage if timing.seq is None else f"{timing.stage} {timing.seq + 1}"
        table.add_row(name, _bar(timing, end), f"{timing.finished_at - timing.started_at:,.0f} ms")
    return table


def _bar(timing: StageTiming, end: float) -> Text:
    queued, start, stop = (round(BAR * at / end) for at in (timing.queued_at, timing.started_at, timing.finished_at))
    colour = _COLOURS.get(timing.stage.partition(".")[0], "white")
    bar = Text(" " * queued + "·" * (start - queued), style="dim")
    bar.append("█" * max(1, stop - start), style=colour)
    return bar


def summary(result: TurnResult) -> Text:
    """The figures that matter, on one line."""
    shown = {
        "first word": result.ttft_ms,
        "first sound": result.ttfa_ms,
        "all": result.total_ms,
        "own": result.overhead_ms,
    }
    parts = [f"{name} {value:,.0f} ms" for name, value in shown.items() if value is not None]
    return Text(" · ".join(parts), style="bold")


class Show(Protocol):
    """Shows a turn while it goes on."""

    def __enter__(self) -> Show:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        ...

    def update(self, event: Event) -> None:
        """The turn has taken in an event."""
        ...


class LiveShow:
    """On a terminal: a region that grows with the reply, replaced by the whole at the end."""

    def __init__(self, tools: Tools, turn: Turn) -> None:
        """`turn` is what is shown."""
        self._turn = turn
        self._out = tools.out
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(get_renderable=self._look, console=tools.out, refresh_per_second=12, transient=True)

    def _look(self) -> RenderableType:
        self._spinner.update(text=Text(self._turn.stage, style="dim"))
        return Group(body(self._turn), self._spinner)

    def __enter__(self) -> LiveShow:
        """Begin."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the whole behind."""
        self._live.stop()
        self._out.print(body(self._turn))
        for note in self._turn.notes:
            self._out.print(Padding(Text(note, style="yellow"), (0, 0, 0, 9)))

    def update(self, event: Event) -> None:
        """Text shows at once, the rest with the next refresh."""
        if event.type == "text.delta":
            self._live.refresh()


class PlainShow:
    """Elsewhere: a line for each thing that is complete."""

    def __init__(self, tools: Tools, turn: Turn) -> None:
        """`turn` is what is shown."""
        self._turn = turn
        self._out = tools.out

    def __enter__(self) -> PlainShow:
        """A written question is known from the beginning."""
        if self._turn.transcript:
            self._out.print(question(self._turn))
        return self

    def __exit__(self, *_: object) -> None:
        """The reply is complete, or as complete as it will be."""
        if self._turn.reply:
            self._out.print(reply(self._turn))

    def update(self, event: Event) -> None:
        """One line per event that says something."""
        if event.type == "transcript":
            self._out.print(question(self._turn))
        elif event.type == "context" and self._turn.sources:
            self._out.print(context(self._turn))
        elif event.type == "audio":
            self._out.print(_said(f"audio {event.sentence + 1}", f"{event.duration_s:.1f} s  {event.text}", "magenta"))
        elif event.type == "retrying":
            self._out.print(_said("again", self._turn.notes[-1], "yellow"))


class SilentShow(PlainShow):
    """For programs: nothing until the end."""

    def __enter__(self) -> SilentShow:
        """Nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing."""

    def update(self, event: Event) -> None:
        """Nothing."""


def show_for(tools: Tools, turn: Turn) -> Show:
    """The show that suits the caller."""
    if tools.json:
        return SilentShow(tools, turn)
    return LiveShow(tools, turn) if tools.out.is_terminal else PlainShow(tools, turn)
