"""Training as jobs: a real trainer process, a real recipe of seconds, faults at the worst moments."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from shared.contracts.events import Event, Progress
from shared.errors import ConfigurationInvalid, InvalidRequest, JobCancelled, TrainingFailed, UnknownRecipe
from shared.producer import Producer
from shared.settings import ROOT
from shared.versions import Registry
from tests.support.servers import RedisServer
from tests.support.training import Workshop, make_workshop, whole_environment
from tests.support.waiting import until
from tests.support.workers import WorkerProcess

pytestmark = pytest.mark.timeout(300)

LONG = {"batch": 4, "steps": 100_000, "learning_rate": 0.001, "validate_every": 20}
"""Far longer than any test waits."""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return make_workshop(tmp_path_factory.mktemp("workshop"))


class Crew:
    """A conductor, which reconciles, and a trainer."""

    def __init__(self, workshop: Workshop, folder: Path, url: str) -> None:
        self.environment = workshop.environment | {
            "MAEARI_REDIS_URL": url,
            "MAEARI_LEASE_S": "2",
            "MAEARI_DRAIN_S": "5",
            "MAEARI_TENANTS": "default",
        }
        self.producer = Producer(url)
        self.registry = Registry(workshop.versions, workshop.folder / "models" / "adapters")
        self.workers = [WorkerProcess(role, folder, self.environment) for role in ("conductor", "trainer")]
        self.trainer = self.workers[1]
        for worker in self.workers:
            worker.wait_ready(self.producer)

    def submit(self, recipe: str, **more: Any) -> str:
        return self.producer.submit("training.run", {"recipe": recipe} | more, deadline_s=600).job_id

    def result(self, job_id: str) -> dict[str, Any]:
        return self.producer.result(job_id, timeout_s=240)

    def follow(self, job_id: str, enough: Callable[[Event], bool]) -> Event:
        """The first event that is `enough`."""
        for event in self.producer.follow(job_id, timeout_s=120):
            if enough(event):
                return event
        raise AssertionError("the stream ended")

    def step(self, job_id: str, least: int) -> Progress:
        """Wait until the training has made so many steps."""
        event = self.follow(job_id, lambda event: event.type == "progress" and event.done >= least)
        assert isinstance(event, Progress)
        return event

    def training(self) -> psutil.Process:
        """The process that trains now."""
        assert self.trainer.process is not None
        (child,) = psutil.Process(self.trainer.process.pid).children()
        return child


@pytest.fixture(scope="module")
def crew(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    folder = tmp_path_factory.mktemp("crew")
    server = RedisServer(folder)
    crew = Crew(workshop, folder, server.url)
    try:
        yield crew
    finally:
        for worker in crew.workers:
            worker.close()
        server.close()


def _now(crew: Crew, job_id: str) -> list[Event]:
    """The events so far."""
    found: list[Event] = []
    with contextlib.suppress(TimeoutError):
        for event in crew.producer.follow(job_id, timeout_s=0.5):
            found.append(event)  # noqa: PERF402  what came before the time was over counts
    return found


def checkpoint(workshop: Workshop) -> Path:
    """The only checkpoint that there is."""
    (found,) = (workshop.folder / "home" / "runs").glob("*/checkpoint.pt")
    return found


@pytest.fixture(autouse=True)
def no_checkpoint_is_left(workshop: Workshop) -> Iterator[None]:
    yield
    for file in (workshop.folder / "home" / "runs").glob("*/*.pt"):
        file.unlink()


def test_a_job_trains_and_registers_a_version(crew: Crew, workshop: Workshop) -> None:
    workshop.recipe("adapter-short")
    job_id = crew.submit("adapter-short", promote=True)
    result = crew.result(job_id)
    assert (result["version"], result["promoted"], result["shortcomings"]) == ("short@1", True, [])
    version = crew.registry.version("short@1")
    assert version.figures["steps"] == 6 and version.recipe["lora"]["rank"] == 8
    assert version.data_hash and version.base_fingerprint and len(version.digest) == 64
    assert crew.registry.resolve("short")[0] == "short@1"
    told = [event for event in crew.producer.follow(job_id) if event.type == "progress"]
    assert (told[-1].done, told[-1].total) == (6, 6)
    assert all(event.loss and event.rate and event.eta_s is not None for event in told)


def test_the_command_hands_a_job_in_and_shows_how_far_it_is(crew: Crew, workshop: Workshop) -> None:
    workshop.recipe("adapter-queued")
    environment = whole_environment(workshop) | crew.environment
    maeari = [sys.executable, "-m", "shared.cli", "train", "adapter-queued", "--queue"]
    done = subprocess.run(maeari, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert "Registered as queued@1. It is not served." in done.stdout
    assert "step 6 of 6, loss" in done.stderr
    told = subprocess.run(
        [*maeari, "--no-wait", "--json"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert crew.result(json.loads(told.stdout)["job_id"])["version"] == "queued@2"


def test_a_version_that_does_not_pass_is_kept_and_not_served(crew: Crew, workshop: Workshop) -> None:
    workshop.recipe("adapter-poor", promotion={"at_least": {"fact_stated": 0.9}})
    result = crew.result(crew.submit("adapter-poor", promote=True))
    assert (result["version"], result["promoted"]) == ("poor@1", False)
    assert "fact_stated is 0.00, at least 0.90 is asked for" in result["shortcomings"]
    assert crew.registry.pointer("poor").serving is None


def test_cancelling_stops_within_a_step_and_keeps_the_checkpoint(crew: Crew, workshop: Workshop) -> None:
    workshop.recipe("adapter-cancelled", schedule=LONG | {"validate_every": 50_000})
    job_id = crew.submit("adapter-cancelled")
    crew.step(job_id, 5)
    process = crew.training()
    crew.producer.cancel(job_id)
    until(lambda: not process.is_running(), "the training has ended", timeout_s=15)
    with pytest.raises(JobCancelled):
        crew.result(job_id)
    assert checkpoint(workshop).stat().st_size > 10_000
    assert not crew.registry.numbers("cancelled")


def test_a_killed_training_goes_on_from_its_checkpoint(crew: Crew, workshop: Workshop) -> None:
    workshop.recipe("adapter-killed", schedule=LONG | {"steps": 600})
    job_id = crew.submit("adapter-killed")
    crew.step(job_id, 100)
    crew.training().kill()
    retrying = crew.follow(job_id, lambda event: event.type == "retrying")
    assert retrying.type == "retrying" and "signal 9" in retrying.fault.message
    again = crew.follow(job_id, lambda event: event.seq > retrying.seq and event.type == "progress")
    assert again.type == "progress" and again.done > 80, "it did not begin anew"
    assert crew.result(job_id)["figures"]["steps"] == 600


def test_a_killed_trainer_s_job_goes_on_in_the_next_one(crew: Crew, workshop: Workshop) -> None:
    workshop.recipe("adapter-orphan", schedule=LONG | {"steps": 900})
    job_id = crew.submit("adapter-orphan")
    crew.step(job_id, 60)
    orphan = crew.training()
    crew.trainer.kill()
    until(
        lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE,
        "nothing trains unseen",
        timeout_s=15,
    )
    crew.trainer.start()
    started = crew.follow(job_id, lambda event: event.type == "started" and event.attempt == 2)
    again = crew.follow(job_id, lambda event: event.seq > started.seq and event.type == "progress")
    assert again.type == "progress" and again.done > 40, "it did not begin anew"
    assert crew.result(job_id)["figures"]["steps"] == 900
    crew.trainer.wait_ready(crew.producer)


def test_a_draining_trainer_hands_its_job_back(crew: Crew, workshop: Workshop) -> None:
    workshop.recipe("adapter-drained", schedule=LONG)
    job_id = crew.submit("adapter-drained")
    crew.step(job_id, 5)
    crew.trainer.signal(signal.SIGTERM)
    assert crew.trainer.wait(60) == 0
    assert checkpoint(workshop).is_file()
    crew.trainer.start()
    crew.trainer.wait_ready(crew.producer)
    until(lambda: len([e for e in _now(crew, job_id) if e.type == "started"]) == 2, "it has begun again", timeout_s=60)
    crew.producer.cancel(job_id)
    view = crew.producer.job(job_id)
    assert view is not None and view.state == "cancelled"


@pytest.mark.parametrize("name", ["nothing-of-that-name", "adapter-link"])
def test_only_recipes_of_the_folders_may_be_named(crew: Crew, workshop: Workshop, tmp_path: Path, name: str) -> None:
    outside = workshop.recipe("adapter-outside").rename(tmp_path / "adapter-outside.yaml")
    link = workshop.recipes / "adapter-link.yaml"
    link.unlink(missing_ok=True)
    link.symlink_to(outside)
    with pytest.raises(UnknownRecipe):
        crew.result(crew.submit(name))


@pytest.mark.parametrize("recipe", ["../recipes/adapter-short", "/etc/passwd", "adapter-short.yaml/..", ""])
def test_a_path_is_refused_at_the_door(crew: Crew, recipe: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        crew.submit(recipe)
    assert caught.value.field == "recipe"


def test_data_outside_the_folders_is_not_read(crew: Crew, workshop: Workshop, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jsonl"
    secret.write_text((workshop.recipes / "talks.jsonl").read_text("utf-8"), encoding="utf-8")
    for file in (str(secret), os.path.relpath(secret, workshop.recipes)):
        workshop.recipe("adapter-secret", data={"sources": [{"file": file}], "validation": 0.2, "max_tokens": 128})
        with pytest.raises(ConfigurationInvalid, match="outside the folders for data"):
            crew.result(crew.submit("adapter-secret"))


def test_a_bad_recipe_fails_at_once_and_is_not_tried_again(crew: Crew, workshop: Workshop) -> None:
    workshop.recipe("adapter-typing", lora={"rank": 8, "alpha": 16, "drop": 0.1})
    job_id = crew.submit("adapter-typing")
    with pytest.raises(ConfigurationInvalid, match=r"adapter-typing\.yaml, lora\.drop"):
        crew.result(job_id)
    view = crew.producer.job(job_id)
    assert view is not None and view.attempts == 1


def test_a_loss_that_is_no_number_is_told_and_never_served(crew: Crew, workshop: Workshop) -> None:
    workshop.recipe("adapter-short")
    served = crew.registry.pointer("short").serving
    schedule = {"batch": 4, "steps": 400, "learning_rate": 0.1, "clip": 1e30, "weight_decay": 0.0, "warmup": 0.0}
    workshop.recipe("adapter-short", lora={"rank": 8, "alpha": 100_000_000}, schedule=schedule)
    with pytest.raises(TrainingFailed, match="loss is"):
        crew.result(crew.submit("adapter-short", promote=True))
    assert crew.registry.pointer("short").serving == served


def test_the_trainer_says_what_it_runs(crew: Crew) -> None:
    until(
        lambda: any(w.role == "trainer" and w.state == "ready" and w.engines for w in crew.producer.workers()),
        "the trainer is seen",
    )
