"""The tree of commands, and what becomes of their errors."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from shared.errors import BrokerUnavailable, MaeariError

from . import adapter, ask, cluster, corpus, demo, evaluate, jobs, knowledge, logs, speech, train
from .tools import INTERRUPTED, tools_of


class Root(TyperGroup):
    """Turns an error of the cluster into one clear message and exit status 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except MaeariError as error:
            tools_of(ctx).report(error)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if (known := _from_redis(error)) is None:
                raise
            tools_of(ctx).report(known)
            raise typer.Exit(1) from error


def _from_redis(error: Exception) -> MaeariError | None:
    import redis

    return BrokerUnavailable(str(error)) if isinstance(error, redis.RedisError) else None


app = typer.Typer(
    cls=Root,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="[bold]Maeari[/bold]: a worker cluster that gives a persona a mind, a memory and a voice.\n\n"
    "Begin with [bold]maeari demo[/bold], or [bold]maeari up[/bold] and then "
    "[bold]maeari ask --pack artist --text '안녕!'[/bold].",
)  # fmt: skip

CLUSTER, TALK, KEEP, TEACH = "The cluster", "Talk and listen", "Keep and look", "Teach and examine"


def _register() -> None:
    add = app.command
    add("up", rich_help_panel=CLUSTER)(cluster.up)
    add("down", rich_help_panel=CLUSTER)(cluster.down)
    add("status", rich_help_panel=CLUSTER)(cluster.status)
    add("logs", rich_help_panel=CLUSTER)(logs.logs)
    add("doctor", rich_help_panel=CLUSTER)(cluster.doctor)
    add("demo", rich_help_panel=CLUSTER)(demo.demo)
    add("ask", rich_help_panel=TALK)(ask.ask)
    add("transcribe", rich_help_panel=TALK)(speech.transcribe)
    add("say", rich_help_panel=TALK)(speech.say)
    app.add_typer(speech.voice, name="voice", rich_help_panel=TALK)
    app.add_typer(knowledge.app, name="knowledge", rich_help_panel=KEEP)
    app.add_typer(jobs.job, name="job", rich_help_panel=KEEP)
    app.add_typer(jobs.dead, name="dead", rich_help_panel=KEEP)
    add("train", rich_help_panel=TEACH)(train.train)
    app.add_typer(adapter.app, name="adapter", rich_help_panel=TEACH)
    app.add_typer(corpus.app, name="corpus", rich_help_panel=TEACH)
    add("evaluate", rich_help_panel=TEACH)(evaluate.evaluate)


_register()
