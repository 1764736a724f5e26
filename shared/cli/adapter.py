"""`maeari adapter`: versions of adapters; which one is served."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .modules import absolute, run_module
from .start import ensure_up
from .tools import Json, Tenant, Tools, tools_of
from .train import check_label

if TYPE_CHECKING:
    from shared.versions import Registry, Version

app = typer.Typer(no_args_is_help=True, help="Versions of adapters: look, measure, serve, go back.")

Label = Annotated[str, typer.Argument(metavar="NAME@N", help="A version, as `maeari adapter list` shows it.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="An adapter.")]


def _registry() -> Registry:
    from shared.settings import settings
    from shared.versions import Registry

    return Registry.of(settings())


def _base() -> Path | None:
    from shared.settings import settings

    base = Path(settings().model(settings().llm_model))
    return base if base.is_dir() else None


@app.command("list")
def list_(ctx: typer.Context, json: Json = False) -> None:
    """Every adapter and its versions; the one that is served is marked."""
    from .render import plain_table

    tools = tools_of(ctx, json)
    registry = _registry()
    rows = [row for name in registry.names() for row in _rows(registry, name)]
    if tools.json:
        tools.print_json(rows)
        return
    table = plain_table(
        ("version", "left"), ("served", "left"), ("trained", "left"), ("passes", "left"), ("why not", "wrap")
    )
    for row in rows:
        passes = {True: "yes", False: "no", None: ""}[row["passes"]]
        served = "yes" if row["served"] else ""
        table.add_row(row["version"], served, row["created"], passes, "; ".join(row["shortcomings"]))
    tools.out.print(table if rows else "There are no adapters.")


def _rows(registry: Registry, name: str) -> list[dict[str, Any]]:
    serving = registry.pointer(name).serving
    rows: list[dict[str, Any]] = []
    if registry.is_shipped(name):
        rows.append(
            {"version": name, "served": serving is None, "created": "shipped", "passes": None, "shortcomings": []}
        )
    for number in registry.numbers(name):
        version = registry.version(f"{name}@{number}")
        short = version.shortcomings()
        rows.append(
            {
                "version": version.label,
                "served": serving == number,
                "created": version.created,
                "passes": not short,
                "shortcomings": short,
                "figures": version.evaluation.figures,
            }
        )
    return rows


@app.command("show")
def show(ctx: typer.Context, version: Label, json: Json = False) -> None:
    """One version: its recipe, hashes, figures."""
    tools = tools_of(ctx, json)
    found = _registry().version(check_label(version))
    content = found.model_dump(mode="json") | {"shortcomings": found.shortcomings()}
    if tools.json:
        tools.print_json(content)
        return
    _print(tools, found)


def _print(tools: Tools, version: Version) -> None:
    tools.say(version.label, "bold")
    for title, value in (
        ("trained", version.created),
        ("recipe", f"{version.recipe_name}, hash {version.recipe_hash}"),
        ("data", f"hash {version.data_hash}"),
        ("base", f"{version.base_model}, fingerprint {version.base_fingerprint or 'unknown'}"),
        ("files", f"SHA-256 {version.digest}"),
        ("measured", f"{version.evaluation.at}, {version.evaluation.source}"),
    ):
        tools.say(f"{title:9} {value}")
    for name, figure in version.evaluation.figures.items():
        asked = [f"at least {version.at_least[name]:.2f}"] if name in version.at_least else []
        asked += [f"at most {version.at_most[name]:.2f}"] if name in version.at_most else []
        tools.say(f"  {name:17} {figure:.3f}  {', '.join(asked)}".rstrip())
    for shortcoming in version.shortcomings():
        tools.say(shortcoming, "yellow")


@app.command("promote")
def promote(ctx: typer.Context, version: Label, json: Json = False) -> None:
    """Serve a version from the next request on, if it passes its evaluation; no worker restarts."""
    tools = tools_of(ctx, json)
    found = _registry().promote(check_label(version), _base())
    _tell(tools, found.name)


@app.command("rollback")
def rollback(ctx: typer.Context, name: Name, json: Json = False) -> None:
    """Serve again what was served before."""
    tools = tools_of(ctx, json)
    _registry().rollback(name)
    _tell(tools, name)


def _tell(tools: Tools, name: str) -> None:
    registry = _registry()
    pointer = registry.pointer(name)
    served, _ = registry.resolve(name)
    if tools.json:
        tools.print_json({"adapter": name, "served": served, "before": list(pointer.before)})
        return
    tools.say(f"{name} is served as {served if pointer.serving is not None else 'it was shipped'} from now on.")


@app.command("evaluate")
def evaluate(
    ctx: typer.Context,
    version: Label,
    cases: Annotated[Path | None, typer.Option("--cases", help="A JSONL file with cases of your own.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", help="At most so many cases per figure.", min=1)] = None,
    up: Annotated[bool, typer.Option("--up", help="Start the cluster first where it does not run.")] = False,
    tenant: Tenant = "default",
    json: Json = False,
) -> None:
    """Measure a version on the running cluster beside the served one; from then on these figures decide."""
    tools = tools_of(ctx, json)
    found = _registry().version(check_label(version))
    if up:
        ensure_up(replace(tools, json=False, out=tools.err) if json else tools)
    tools.producer()
    arguments = ["--pack", found.pack, "--record", found.label, "--tenant", tenant, *(["--json"] if json else [])]
    arguments += ["--cases", absolute(cases)] if cases else []
    arguments += ["--limit", str(limit)] if limit else []
    run_module("workers.evaluation", arguments, needs="torch")
