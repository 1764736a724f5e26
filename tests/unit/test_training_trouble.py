"""What goes wrong with a training is said early and clearly, and costs neither a checkpoint nor a served adapter."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.errors import (
    ConfigurationInvalid,
    EngineFailed,
    InvalidAdapter,
    JobCancelled,
    MaeariError,
    TrainingFailed,
)
from shared.settings import ROOT, Settings
from shared.versions import Registry
from tests.support.training import Workshop, make_workshop, whole_environment
from tests.support.waiting import until
from workers.training import __main__ as command
from workers.training import adapter, files, keeping, memory, recipe
from workers.training.progress import Lines, Standing, Watch, stopped_by_signals, watch

pytestmark = pytest.mark.timeout(900)  # two of them start the whole command, which loads a lot

Disk = namedtuple("Disk", "total used free")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return make_workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture
def workshop(made: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A workshop whose settings are this process's, with a home and versions of its own."""
    config = Settings(
        home=tmp_path / "home",
        models_path=made.folder / "models",
        llm_model="tiny",
        adapter_versions_path=tmp_path / "versions",
        recipe_paths=(made.recipes,),
    )
    for module in (command, keeping, memory, adapter, recipe):
        monkeypatch.setattr(module, "settings", lambda: config)
    return made


def run(workshop: Workshop, name: str, **changes: Any) -> Any:
    """Train the recipe in this process and keep the result."""
    return command.train_and_keep(workshop.recipe(name, **changes))


def checkpoints(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "home" / "runs").glob("*/*.pt"))


# --- before anything is trained ---


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"lora": {"rank": 8, "alpha": 16, "drop": 0.1}}, r"adapter-bad\.yaml, lora\.drop"),
        ({"speed": 3}, r"adapter-bad\.yaml, speed"),
        ({"base_model": "nowhere"}, "base model nowhere cannot be loaded"),
        ({"data": {"sources": [{"file": "nowhere.jsonl"}]}}, r"nowhere\.jsonl cannot be read"),
        ({"data": {"sources": [{"file": "broken.jsonl"}]}}, r"broken\.jsonl, line 2: is not JSON"),
        ({"data": {"sources": [{"file": "talks.jsonl", "count": 1}]}}, "leave no validation split"),
        ({"data": {"sources": [{"file": "empty.jsonl"}]}}, "0 dialogues .* leave no validation split"),
        ({"lora": {"rank": 32, "alpha": 16}}, "Rank 32 is above the 16 that llm workers serve"),
        ({"data": {"sources": [{"style": "mentor", "count": 9}]}}, "no dialogues in the style mentor, only parent"),
        ({"pack": "nobody"}, "There is no such pack"),
        ({"device": "cuda"}, "no CUDA device"),
        ({"promotion": {"at_least": {"charm": 0.5}}}, r"promotion\.at_least"),
        ({"schedule": {"batch": 4, "steps": 1, "epochs": 2, "learning_rate": 0.1}}, "either steps or epochs"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="one case asks for a device that must be missing")
def test_a_bad_recipe_is_refused_before_anything_is_trained(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], problem: str
) -> None:
    (workshop.recipes / "empty.jsonl").write_text("", encoding="utf-8")
    good = (workshop.recipes / "talks.jsonl").read_text("utf-8").splitlines()[0]
    (workshop.recipes / "broken.jsonl").write_text(f"{good}\n{{", encoding="utf-8")
    monkeypatch.setattr(adapter.Loop, "run", _must_not_run)
    with pytest.raises(MaeariError, match=problem):
        run(workshop, "adapter-bad", **changes)
    assert checkpoints(tmp_path) == []
    assert Registry(tmp_path / "versions", tmp_path).numbers("bad") == ()


def _must_not_run(_: object) -> None:
    raise AssertionError("it began to train")


def test_too_little_memory_is_said_with_what_helps(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda _device: 200 * 2**20)
    with pytest.raises(
        ConfigurationInvalid, match=r"needs about 0\.\d GiB of memory, 0\.2 GiB are free: lower"
    ) as caught:
        run(workshop, "adapter-large")
    assert caught.value.field == "schedule.batch"


def test_memory_is_what_is_free_on_this_machine() -> None:
    assert 2**26 < memory.free_memory("cpu") < 2**45


def test_a_disk_without_room_for_checkpoints_is_noticed(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda _path: Disk(10, 10, 1000))
    with pytest.raises(ConfigurationInvalid, match="Checkpoints need about"):
        run(workshop, "adapter-large")


@pytest.mark.parametrize("name", ["nothing-of-that-name", "adapter-linked"])
def test_a_job_may_name_recipes_of_the_folders_alone(
    workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    outside = workshop.recipe("adapter-linked").rename(tmp_path / "adapter-linked.yaml")
    (workshop.recipes / "adapter-linked.yaml").symlink_to(outside)
    try:
        assert command.main([name, "--named", "--keep"]) == 1
    finally:
        (workshop.recipes / "adapter-linked.yaml").unlink()
    assert "unknown_recipe" in capsys.readouterr().err


@pytest.mark.parametrize("absolute", [True, False], ids=["absolute", "relative"])
def test_a_job_reads_no_data_outside_the_folders(
    workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str], absolute: bool
) -> None:
    secret = tmp_path / "secret.jsonl"
    secret.write_text((workshop.recipes / "talks.jsonl").read_text("utf-8"), encoding="utf-8")
    file = str(secret) if absolute else os.path.relpath(secret, workshop.recipes)
    workshop.recipe("adapter-secret", data={"sources": [{"file": file}], "validation": 0.2, "max_tokens": 128})
    assert command.main(["adapter-secret", "--named", "--keep"]) == 1
    assert "outside the folders for data" in capsys.readouterr().err


# --- in the middle ---


def test_a_full_disk_ends_it_and_keeps_the_last_checkpoint(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = torch.save
    written: list[Path] = []

    def full(content: Any, path: Path) -> None:
        if len(written) >= 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        saved(content, path)
        written.append(path)

    monkeypatch.setattr(files.torch, "save", full)
    with pytest.raises(TrainingFailed, match=r"the disk is full.*last good checkpoint is kept"):
        run(workshop, "adapter-full")
    assert [file.name for file in checkpoints(tmp_path)] == ["best.pt", "checkpoint.pt"]
    assert files.load(checkpoints(tmp_path)[1])["state"]["step"] == 3
    monkeypatch.setattr(files.torch, "save", saved)
    assert run(workshop, "adapter-full").figures["steps"] == 6
    assert checkpoints(tmp_path) == []


def test_a_limit_of_the_system_is_met_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    files.save(path, {"step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(TrainingFailed, match=r"cannot be written.*the last good checkpoint is kept"):
            files.save(path, {"weights": torch.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files.load(path) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"], "nothing half is left"


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"PK not a checkpoint")
    with pytest.raises(TrainingFailed, match="delete it to begin anew"):
        files.load(path)


def test_a_validation_loss_that_is_no_number_is_never_the_best(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = adapter.Loop._loss

    def poisoned(loop: Any, batch: Any) -> torch.Tensor:
        loss = plain(loop, batch)
        return loss if loop.model.training or loop.state.step < 6 else loss * float("nan")

    monkeypatch.setattr(adapter.Loop, "_loss", poisoned)
    with pytest.raises(TrainingFailed, match="validation loss is nan at step 6"):
        run(workshop, "adapter-poisoned")
    assert files.load(checkpoints(tmp_path)[1])["state"]["step"] == 3


def test_weights_that_are_no_numbers_are_not_registered(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = adapter.save

    def spoiled(model: Any, out: Path) -> None:
        with torch.no_grad():
            next(value for value in model.parameters() if value.requires_grad).fill_(float("inf"))
        plain(model, out)

    monkeypatch.setattr(adapter, "save", spoiled)
    monkeypatch.setattr(adapter, "examine", lambda *_: {"style_kept": 1.0})
    with pytest.raises(InvalidAdapter, match="not finite"):
        run(workshop, "adapter-spoiled")
    assert Registry(tmp_path / "versions", tmp_path).numbers("spoiled") == ()
    assert checkpoints(tmp_path), "the run can be gone on with"


def test_a_version_that_cannot_be_kept_costs_no_training(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("shared.versions.shutil.copytree", full)
        with pytest.raises(TrainingFailed, match="the disk is full"):
            run(workshop, "adapter-unkept")
    assert checkpoints(tmp_path)
    monkeypatch.setattr(adapter.Loop, "_step", _must_not_run)
    assert run(workshop, "adapter-unkept").version == "unkept@1"
    assert not checkpoints(tmp_path)


def test_a_failure_leaves_what_is_served(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(tmp_path / "versions", tmp_path)
    first = run(workshop, "adapter-served")
    registry.promote(first.version, None)
    monkeypatch.setattr(adapter.Loop, "_loss", lambda *_: torch.tensor(float("nan"), requires_grad=True))
    with pytest.raises(TrainingFailed, match="loss is nan at step 0"):
        run(workshop, "adapter-served", seed=2)
    assert registry.resolve("served")[0] == first.version
    assert registry.numbers("served") == (1,)


def test_a_loss_that_grows_beyond_all_numbers_is_told_and_never_served(workshop: Workshop, tmp_path: Path) -> None:
    schedule = {"batch": 4, "steps": 400, "learning_rate": 0.1, "clip": 1e30, "weight_decay": 0.0, "warmup": 0.0}
    file = workshop.recipe("adapter-steep", lora={"rank": 8, "alpha": 100_000_000}, schedule=schedule)
    with pytest.raises(TrainingFailed, match="loss is"):
        command.train_and_keep(file, promote=True)
    assert Registry(tmp_path / "versions", tmp_path).pointer("steep").serving is None


def test_a_version_that_does_not_pass_is_kept_and_not_served(workshop: Workshop, tmp_path: Path) -> None:
    file = workshop.recipe("adapter-poor", promotion={"at_least": {"fact_stated": 0.9}})
    result = command.train_and_keep(file, promote=True)
    assert (result.version, result.promoted) == ("poor@1", False)
    assert "fact_stated is 0.00, at least 0.90 is asked for" in result.shortcomings
    assert Registry(tmp_path / "versions", tmp_path).pointer("poor").serving is None


def test_other_data_begins_another_run(workshop: Workshop, tmp_path: Path) -> None:
    watch.stopping = True
    try:
        with pytest.raises(JobCancelled, match="after step 1; its checkpoint is kept"):
            run(workshop, "adapter-stopped")
        assert len(checkpoints(tmp_path)) == 1
        (workshop.recipes / "fewer.jsonl").write_text(
            "\n".join((workshop.recipes / "talks.jsonl").read_text("utf-8").splitlines()[:20]), encoding="utf-8"
        )
        data = {"sources": [{"file": "fewer.jsonl"}], "validation": 0.2, "max_tokens": 128}
        with pytest.raises(JobCancelled, match="after step 1;"):
            run(workshop, "adapter-stopped", data=data)
        assert len(checkpoints(tmp_path)) == 2
    finally:
        watch.stopping = False
    again = run(workshop, "adapter-stopped")
    assert again.figures["steps"] == 6


def test_a_pack_without_a_corpus_must_be_measured_before_it_is_served(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "PACKS", ())
    monkeypatch.setattr(adapter, "examine", _must_not_run)
    result = run(workshop, "adapter-mentor", promotion={"at_least": {"style_kept": 0.5}, "at_most": {}})
    assert result.shortcomings == ("style_kept was not measured, at least 0.50 is asked for",)


def test_two_processes_do_not_train_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "WAIT_S", 0.1)
    with files.alone(tmp_path), pytest.raises(EngineFailed, match="Another process"), files.alone(tmp_path):
        raise AssertionError("both train")
    with files.alone(tmp_path):
        pass


# --- the command and its progress ---


def test_ctrl_c_stops_after_a_step_and_the_same_command_goes_on(made: Workshop, tmp_path: Path) -> None:
    schedule = {"batch": 4, "steps": 400, "learning_rate": 0.001, "validate_every": 1000}
    file = made.recipe("adapter-interrupted", schedule=schedule)
    environment = whole_environment(made, MAEARI_HOME=str(tmp_path / "home"), PYTHONUNBUFFERED="1")
    maeari = [sys.executable, "-m", "shared.cli", "train", str(file), "--json"]
    first = subprocess.Popen(
        maeari, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    log = tmp_path / "home" / "logs" / "train-adapter-interrupted.log"
    until(lambda: log.is_file() and "20 examples" in log.read_text("utf-8"), "it has begun", timeout_s=300)
    until(lambda: list((tmp_path / "home").glob("runs/*/lock")), "it trains")
    os.killpg(first.pid, signal.SIGINT)
    first.communicate(timeout=300)
    assert first.returncode == 130
    assert len(list((tmp_path / "home").glob("runs/*/checkpoint.pt"))) == 1
    second = subprocess.run(maeari, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(second.stdout)["version"] == "interrupted@1"
    assert "going on from step" in log.read_text("utf-8")


def test_the_command_shows_an_error_as_any_other(made: Workshop, tmp_path: Path) -> None:
    file = made.recipe("adapter-typo", kind="adaptor")
    environment = whole_environment(made, MAEARI_HOME=str(tmp_path / "home"))
    maeari = [sys.executable, "-m", "shared.cli", "train", str(file), "--json"]
    done = subprocess.run(maeari, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)["error"]
    assert (done.returncode, told["code"], told["field"]) == (1, "configuration_invalid", "adapter-typo.yaml:kind")


def test_lines_of_progress_come_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    standing = Standing("adapter", 5, 10, 1.25, 0.001, 90.0)
    Lines(every_s=3600)(standing)
    assert capsys.readouterr().err == ""
    Lines(every_s=0.0)(standing)
    assert capsys.readouterr().err == "step 5/10 loss 1.2500 lr 1.00e-03 eta 1.5 min\n"


def test_a_stopped_training_ends_between_two_steps() -> None:
    own, kept = Watch(), []
    own.check(None, 0)
    own.stopping = True
    keep: Callable[[], None] = lambda: kept.append(1)  # noqa: E731
    with pytest.raises(JobCancelled, match="after step 7; its checkpoint is kept"):
        own.check(keep, 7)
    assert kept == [1]
    with pytest.raises(JobCancelled, match="begin anew"):
        own.check(None, 7)


def test_signals_that_fall_into_each_other_stop_a_training_too() -> None:
    """A killed parent's threads die one by one, and each sends its children the signal."""
    storm = "import os, sys, time; [(os.kill(int(sys.argv[1]), 15), time.sleep(1e-4)) for _ in range(5000)]"
    try:
        with stopped_by_signals():
            senders = [subprocess.Popen([sys.executable, "-c", storm, str(os.getpid())]) for _ in range(2)]
            while any(sender.poll() is None for sender in senders):
                pass
        with pytest.raises(JobCancelled):
            watch.check(None, 1)
    finally:
        watch.stopping = False
