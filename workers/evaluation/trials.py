"""Trials: every case is put to the cluster as often as its figures need, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial

from shared.errors import BrokerUnavailable, ConfigurationInvalid, MaeariError
from shared.packs import load_pack, pack_ids
from workers.training.corpus import PACKS

from .cases import Case, MeasureName
from .conversation import Cluster
from .measures import MEASURES, Verdict, found, heard, spoken_back, stated, styled
from .suites import own_cases

AT_ONCE = 8
"""Cases that are under way together."""

NOISE_DB = 20.0
"""Speech over background."""

TALKING: tuple[MeasureName, ...] = ("fact_stated", "recall_stated", "style_kept", "spoken_back_cer")
"""Figures of one conversation with the pack's adapter."""

OTHER_CASES = 40
"""Cases that are put to another pack's adapter."""


@dataclass(frozen=True)
class Trial:
    """One thing to do for one case, and the figures that it counts for."""

    case: Case
    number: int
    """Its place among the cases; decides manner, noise and the reply's seed."""
    pack: str
    measures: tuple[MeasureName, ...]
    run: Callable[[Cluster, Trial], list[Verdict]]
    adapter: str | None = None
    """Another adapter than the pack's."""


def plan(pack: str, cases: Sequence[Case], adapter: str | None = None, limit: int | None = None) -> list[Trial]:
    """The trials of a pack. `adapter`: instead of the pack's own; `limit`: at most so many cases per figure."""
    trials = [trial for number, case in enumerate(cases) for trial in _of_case(case, number, pack, adapter)]
    taken: dict[str, int] = {}
    kept = []
    for trial in trials:
        most = {name: _most(name, limit) for name in trial.measures}
        wanted = tuple(name for name in trial.measures if taken.get(name, 0) < most[name])
        for name in wanted:
            taken[name] = taken.get(name, 0) + 1
        if wanted:
            kept.append(Trial(trial.case, trial.number, trial.pack, wanted, trial.run, trial.adapter))
    return kept


def plan_version(pack: str, cases: Sequence[Case], label: str, limit: int | None = None) -> list[Trial]:
    """The trials that decide whether the adapter `label` may be served as the pack's.

    On the pack's cases it must state, recall and keep the style; on another pack's it must break that pack's.
    """
    wanted = ("fact_stated", "recall_stated", "style_kept")
    own = [trial for trial in plan(pack, cases, label, limit) if set(trial.measures) & set(wanted)]
    kept = [replace(trial, measures=tuple(m for m in trial.measures if m in wanted)) for trial in own]
    other = next(name for name in PACKS if name != pack)
    foreign = [trial for trial in plan(other, own_cases(other), None, limit) if "other_style_kept" in trial.measures]
    return [*kept, *(replace(trial, adapter=label) for trial in foreign)]


def _most(name: MeasureName, limit: int | None) -> int:
    most = OTHER_CASES if name == "other_style_kept" else 10_000
    return most if limit is None else min(most, limit)


def _of_case(case: Case, number: int, pack: str, adapter: str | None) -> Iterator[Trial]:
    wanted = case.counted
    for name, decibels in (("heard_cer", None), ("new_wordings_cer", None), ("noisy_cer", NOISE_DB)):
        if name in wanted:
            yield Trial(case, number, pack, (_known(name),), partial(_hear, decibels=decibels))
    if "hit_at_3" in wanted:
        yield Trial(case, number, pack, ("hit_at_3",), _find)
    if talking := tuple(name for name in TALKING if name in wanted):
        yield Trial(case, number, pack, talking, _talk, adapter)
    if "other_style_kept" in wanted:
        yield Trial(case, number, pack, ("other_style_kept",), _talk, other_adapter(pack))


def other_adapter(pack: str) -> str:
    """The adapter of another pack. Raises `ConfigurationInvalid` where there is none."""
    own = load_pack(pack).adapter
    others = [load_pack(other).adapter for other in pack_ids() if other != pack]
    for adapter in others:
        if adapter != own:
            return adapter
    raise ConfigurationInvalid(
        f"Every pack has the adapter {own}; there is no other one to compare with.", field="pack"
    )


def _known(name: str) -> MeasureName:
    return next(known for known in MEASURES if known == name)


def run(
    cluster: Cluster, trials: Sequence[Trial], on_done: Callable[[int, int], None] = lambda _done, _total: None
) -> list[Verdict]:
    """Every trial's verdicts. Raises `BrokerUnavailable` when the cluster is lost, or the error that all trials met."""
    verdicts: list[Verdict] = []
    errors: list[MaeariError] = []
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="trial") as pool:
        under_way = {pool.submit(trial.run, cluster, trial): trial for trial in trials}
        try:
            for done, future in enumerate(as_completed(under_way), 1):
                verdicts += _judged(future, under_way[future], errors)
                on_done(done, len(trials))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            cluster.cancel()
            raise
    if errors and len(errors) == len(trials):
        raise errors[0]
    return verdicts


def _judged(future: Future[list[Verdict]], trial: Trial, errors: list[MaeariError]) -> list[Verdict]:
    try:
        return future.result()
    except BrokerUnavailable:
        raise
    except MaeariError as error:
        errors.append(error)
        return [Verdict(name, trial.case, error=f"{error.code}: {error.message}") for name in trial.measures]
    except TimeoutError:
        errors.append(MaeariError("A job did not end in time."))
        return [Verdict(name, trial.case, error="timeout: a job did not end in time") for name in trial.measures]


def _hear(cluster: Cluster, trial: Trial, decibels: float | None) -> list[Verdict]:
    text = cluster.hear(trial.case, trial.number, decibels)
    return [heard(name, trial.case, trial.case.last, text) for name in trial.measures]


def _find(cluster: Cluster, trial: Trial) -> list[Verdict]:
    return [found(trial.case, cluster.find(trial.pack, trial.case.last))]


def _talk(cluster: Cluster, trial: Trial) -> list[Verdict]:
    case, speech = trial.case, "spoken_back_cer" in trial.measures
    reply = cluster.converse(case, trial.number, trial.pack, trial.adapter, speech=speech)
    verdicts: list[Verdict] = []
    for name in trial.measures:
        if name in ("fact_stated", "recall_stated"):
            verdicts.append(stated(name, case, reply.text, reply.chunks))
        elif name in ("style_kept", "other_style_kept"):
            verdicts.append(styled(name, case, reply.text, load_pack(trial.pack)))
        elif reply.audio is not None:
            verdicts.append(spoken_back(case, reply.text, cluster.transcribe(reply.audio)))
        else:
            verdicts.append(Verdict(name, case, error="no_audio: the reply was not spoken"))
    return verdicts
