"""Tokens per second and time to the first token, mixed adapters: this cluster beside raw vLLM and what serves it elsewhere.

Every contender has an engine of its own with the very same arguments. This cluster stays; the others come beside it in small
groups, for many engines at a time push each other's pages out of memory. While one is measured, the rest of its group is
frozen, and what is compared was measured within seconds. Servers run twice: as they come, and with this cluster's plugins for
vLLM (`workers.engines.generator_plugins`), so that what the plugins gain is not mistaken for what the queue costs. The raw
engines always compute adapters with them; to give way to others is for engine cores in processes of their own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from .contenders import (
    AIMED,
    LEVELS,
    LITSERVE,
    NAIVE,
    OPENAI,
    OURS,
    PLUGIN,
    RAW,
    RAW_ASYNC,
    RAY,
    SERVERS,
    SWEEP,
    Batch,
    Cluster,
    Contender,
    Found,
    InClient,
    Naive,
    Served,
    has_plugin,
)
from .measures import Section, Table, median, number, quantile, ratios, spread
from .peers.environment import Peers, ensure

ROUNDS, CLOSE = (
    int(os.environ.get(f"BENCH_GENERATION_{name}", default)) for name, default in {"ROUNDS": 3, "CLOSE": 8}.items()
)
"""Rounds of what has a target, others have fewer (`_rounds`); of what a few percent decide (one: twice as many)."""
ROOM_GIB = 2.5
"""Memory that must be free before a further engine is started."""
GIVEN = os.environ.get("BENCH_GENERATION_GIVEN", "openai").split()
"""Servers that run with the plugins as well, of openai, litserve and ray."""

Entry = tuple[str, type[Contender], str]
"""Name, kind, and the peer that must be installed."""


@dataclass
class Comparison:
    """A contender beside this cluster."""

    found: Found
    ours: Found
    """This cluster's rounds, each seconds away from one of the contender's."""

    def over(self, batch: Batch) -> list[float]:
        """This cluster's tokens per second over the contender's, round by round."""
        return ratios(self.ours.rates.get(batch, ()), self.found.rates.get(batch, ()))


@dataclass
class Field:
    """Who is there at a time."""

    folder: Path
    section: Section
    peers: Peers
    here: list[Contender] = field(default_factory=list)

    def enter(self, group: Sequence[Entry]) -> list[Contender]:
        """Start all of a group at a time, try them, freeze them; of one that is not there, say why."""
        room = int(psutil.virtual_memory().available / 2**30 / ROOM_GIB)
        with ThreadPoolExecutor(len(group)) as pool:
            try:
                found = list(pool.map(self._entered, group[:room]))
            except BaseException:  # an interrupted run waits for no start, and leaves nothing behind
                self.leave(tuple(self.here))
                raise
        found += [f"an engine needs {ROOM_GIB} GiB of memory, which are not free"] * len(group[room:])
        for (name, _, _), contender in zip(group, found, strict=True):
            if isinstance(contender, str):
                self.section.notes.append(f"{name} was not run: {contender}")
        return [contender for contender in found if isinstance(contender, Contender)]

    def _entered(self, entry: Entry) -> Contender | str:
        name, kind, needs = entry
        return self.peers.missing.get(needs) or self._start(name, kind, self.peers.python if needs else sys.executable)

    def _start(self, name: str, kind: type[Contender], python: str) -> Contender | str:
        contender = kind(name, self.folder / _slug(name), python)
        self.here.append(contender)
        try:
            contender.begin()
        except RuntimeError as error:
            self.leave([contender])
            return str(error)
        return contender

    def leave(self, contenders: Sequence[Contender]) -> None:
        """They end."""
        for contender in contenders:
            contender.close()
            if contender in self.here:
                self.here.remove(contender)


def measure(folder: Path) -> Section:
    """Group by group, level by level, everybody in turn."""
    section = Section()
    field_ = Field(folder, section, ensure())
    compared: dict[str, Comparison] = {}
    try:
        ours = field_.enter([(OURS, Cluster, "")])
        if not ours:
            raise RuntimeError(section.notes[-1])
        for group in _groups():
            compared |= _beside(field_, ours[0], group)
    finally:
        field_.leave(tuple(field_.here))
    _report(section, compared)
    return section


def _beside(field_: Field, ours: Contender, group: Sequence[Entry]) -> dict[str, Comparison]:
    """A group comes, is measured beside this cluster, and leaves."""
    others = field_.enter(group)
    if not others:
        return {}
    ours.found = Found()
    for batch in (*SWEEP, AIMED):
        rounds = {contender.name: _rounds(contender.name, batch) for contender in others}
        for round_ in range(max(rounds.values())):
            for contender in (ours, *others):
                if contender is ours or round_ < rounds[contender.name]:
                    contender.turn(batch)
    field_.leave(others)
    return {contender.name: Comparison(contender.found, ours.found) for contender in others}


def _rounds(name: str, batch: Batch) -> int:
    """How often a contender is measured with a batch: what says little and costs much is left out."""
    if name == NAIVE:
        return int(batch in SWEEP)
    if batch == AIMED:
        return {RAW: 2 * CLOSE}.get(name, CLOSE // 2 if name.endswith(PLUGIN) else 0)
    if batch == SWEEP[-1]:
        return ROUNDS
    if batch == SWEEP[0] and name == RAW_ASYNC:
        return CLOSE
    return 0 if name.endswith(PLUGIN) else 1


_NEEDS = {OPENAI: "", LITSERVE: "litserve", RAY: "ray"}
"""Which peer a server comes with."""
_SLUGS = {
    OURS: "ours",
    RAW: "raw",
    RAW_ASYNC: "async",
    OPENAI: "openai",
    LITSERVE: "litserve",
    RAY: "ray",
    NAIVE: "naive",
}


def _slug(name: str) -> str:
    return _SLUGS[name.removesuffix(PLUGIN)] + ("_with_plugin" if name.endswith(PLUGIN) else "")


def _groups() -> tuple[tuple[Entry, ...], ...]:
    """Who is there at a time: the raw engines, then the others, two or three at a time."""
    servers: list[Entry] = []
    for name, needs in _NEEDS.items():
        suffixes = ("", PLUGIN) if _SLUGS[name] in GIVEN else ("",)
        servers += [(f"{name}{suffix}", Served, needs) for suffix in suffixes]
    *pairs, last = (tuple(servers[place : place + 2]) for place in range(0, len(servers), 2))
    return (((RAW, InClient, ""), (RAW_ASYNC, InClient, "")), *pairs, (*last, (NAIVE, Naive, "")))


_AIMS = {RAW: 0.97, NAIVE: 8.0} | {
    f"{name}{suffix}": aim for name, aim in zip(SERVERS, (1.0, 1.1, 1.5), strict=True) for suffix in ("", PLUGIN)
}


def _report(section: Section, compared: dict[str, Comparison]) -> None:
    here = _all_rounds(compared)
    section.tables += [_rates(here, compared), _firsts(here)]
    for name, comparison in compared.items():
        if rates := comparison.over(AIMED):
            section.figures[f"tokens_over_{_slug(name)}"] = median(rates)
        if streamed := comparison.over(SWEEP[-1]):
            section.figures[f"streamed_tokens_over_{_slug(name)}"] = median(streamed)
        if name in _AIMS and (decisive := rates or streamed):
            section.at_least(f"tokens/s of {AIMED.jobs} jobs / {name}", median(decisive), _AIMS[name])
    if direct := compared.get(RAW_ASYNC):
        added = [a - b for a, b in zip(direct.ours.first_medians[1], direct.found.first_medians[1], strict=True)]
        section.figures["added_ttft_ms_over_async"] = median(added)
        section.at_most("added time to first token at concurrency 1, p50", median(added), 3.0, " ms")
    section.notes.append(
        "On a CPU, vLLM copies an adapter's weights for every token, which took two thirds of a step of the laptop's model (py-spy, "
        "once); this cluster's plugins multiply with the adapters of a batch at once, and let the processes that bring jobs go "
        "before the engine's core. A server that a user would install has not got them: measured as it comes, it says what the "
        "cluster gains; with the plugins, what the queue costs beside a server's way over HTTP: the same within the noise, 0.89 to 1.07 "
        'in ten runs, 1.01 in the middle (`BENCH_GENERATION_GIVEN="openai litserve ray"` '
        "gives them to more; LitServe had 1.03 then and Ray Serve 1.13). Who computes adapters alike is compared by answers that are not "
        "streamed, of 128 tokens, the length that vLLM's own benchmark has by default; who falls far behind by the sweep over "
        "concurrency, of 64 tokens and streamed, which costs this cluster a tenth."
    )
    section.notes.append(
        "What keeps the cluster from the raw engine's figure is the same for replies of 64 tokens (0.98 when it was measured last) and of "
        "256 (0.99). Followed step by step once "
        "(64 jobs of 128 tokens, medians of 14 batches each, interleaved, the machine in a slow hour): the raw engine has all 64 "
        "after 20 ms, this cluster after 147, for the caller, Redis, claim, prompt and vLLM's front end take 2 ms a job of the one "
        "core that the engine leaves, and its worker changes threads some 27 times a job. Then a full step takes 23.2 ms here and "
        "23.8 ms there, where the same thread turns tokens into text; 23 ms go by between the last token and the last result. In "
        "all 3,257 and 3,249 ms. Holding the first jobs back until the others had come gained nothing. Where the host has other "
        "guests, changes of threads and processes cost more and the ratio falls; single rounds differ by a third then, and medians "
        "of eight rounds by 0.02 to 0.03, so there are sixteen."
    )
    section.notes.append(
        "What a lone job's first token waits for beyond the raw engine's (one job's way timed hop by hop, in a slow hour): the trips to "
        "Redis that hand it in and tell its first word, 0.7 ms each, 0.2 of that Lua; Celery's loop, thread and tracing, 0.6 ms; template "
        "and tokenizer, 0.4 ms. The claim is asked for meanwhile: one trip less, 0.3 ms in twelve interleaved rounds. Since then threads wait "
        "for messages themselves, which spares the loop."
    )
    section.notes.append(
        "A batch is handed in as one list where a contender takes lists: `LLM.generate`, and this cluster (`Producer.submit_all`). "
        "Streamed, the cluster writes what each job says every 30 ms or more into its record, from which a caller can read on after "
        "any interruption. Everybody is handed text: the cluster messages, to which it applies the chat template, the others prompts "
        "with the template applied."
    )
    levels = [str(level) for level in LEVELS]
    shown = {name: found for name, found in here.items() if not name.endswith(PLUGIN)}
    series = {n: [median(c.rates[batch]) for batch in SWEEP if batch in c.rates] for n, c in shown.items()}
    caption = "Tokens per second against jobs at a time, streamed where a contender can; servers as they come."
    section.pictures.append(
        {"kind": "lines", "file": "bench-generation.svg", "caption": caption, "x": levels, "series": series}
        | {"unit": "tokens/s", "x_label": "jobs at a time"}
    )
    caption = "Time to the first token of 16 jobs that come at once: share of jobs that have theirs."
    series_of_firsts = {name: sorted(c.firsts[16]) for name, c in shown.items() if c.firsts.get(16)}
    section.pictures.append(
        {"kind": "distribution", "file": "bench-ttft.svg", "caption": caption, "unit": "ms", "series": series_of_firsts}
    )


def _all_rounds(compared: dict[str, Comparison]) -> dict[str, Found]:
    """Everybody's rounds; this cluster's of all groups, each once, behind the raw engines."""
    ours = Found()
    for rounds in {id(comparison.ours): comparison.ours for comparison in compared.values()}.values():
        ours.take(rounds)
    found = {name: comparison.found for name, comparison in compared.items()}
    return {name: found.pop(name) for name in (RAW, RAW_ASYNC) if name in found} | {OURS: ours} | found


def _rates(here: dict[str, Found], compared: dict[str, Comparison]) -> Table:
    rows = []
    for name, found in here.items():
        cells = [number(median(found.rates[batch])) if batch in found.rates else "" for batch in (*SWEEP, AIMED)]
        shares = [compared[name].over(batch) if name in compared else [] for batch in (AIMED, SWEEP[-1])]
        cells += [f"{median(rounds):.2f} ({spread(rounds)})" if rounds else "" for rounds in shares]
        rows.append([name, "the plugins" if has_plugin(name) else "vLLM", *cells])
    columns = [f"{batch.jobs} at a time" for batch in SWEEP]
    columns += [f"{AIMED.jobs}, not streamed, {AIMED.tokens} tokens", "cluster / this (rounds)", "of those streamed"]
    title = f"Throughput, replies of {SWEEP[0].tokens} tokens, streamed where a contender can"
    return Table(title, ["tokens/s", "adapters computed by", *columns], rows)


def _firsts(here: dict[str, Found]) -> Table:
    rows = [
        [name, *(_middle_and_late(c.firsts[level]) if level in c.firsts else "" for level in LEVELS)]
        for name, c in here.items()
        if c.firsts
    ]
    return Table("Time to first token, p50 / p95 in ms", ["", *(f"{level} at a time" for level in LEVELS)], rows)


def _middle_and_late(times: list[float]) -> str:
    return f"{number(median(times))} / {number(quantile(times, 0.95))}"
