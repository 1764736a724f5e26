"""What the documents name exists: links, commands, settings, keys, events, error codes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import typer

from shared.cli.root import app
from shared.contracts.catalog import CATALOG
from shared.contracts.events import Event
from shared.errors import by_code
from shared.keys import BATCH, CELERY_RESULT, Keys, queue_list
from shared.settings import ROOT, Settings

PAGES = sorted(
    [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy" / "producers").rglob("README.md")]
)
PROFILES = sorted((ROOT / "deploy" / "profiles").glob("*.env"))
WIRE = (ROOT / "docs" / "wire-contract.md").read_text("utf-8")

NOT_SETTINGS = {"MAEARI_ENV_HOME"}
"""Read by the set-up, before there are settings."""


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _prose(text: str) -> str:
    """Without fenced blocks, whose brackets are code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def _anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _prose(page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", _prose(page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or not target.is_relative_to(ROOT) or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert broken == []


def _commands(text: str) -> Iterator[str]:
    """What stands behind `maeari` in code, to the end of the span or line."""
    for code in re.findall(r"`([^`\n]+)`", _prose(text)) + re.findall(r"^(?: {4,}|[^`|]*\$ )(.+)$", text, re.MULTILINE):
        for piece in re.split(r"&&|;|\|| #", code):
            found = re.match(r"(?:\S+=\S+ )*(?:\S*/)?maeari ((?:[a-z]+ ?)+)", piece.strip())
            if found:
                yield found[1].strip()


def _exists(words: str) -> bool:
    """Whether the words lead to a command; behind a command anything may follow."""
    node = typer.main.get_command(app)
    for word in words.split():
        commands = getattr(node, "commands", None)
        if commands is None:
            return True
        if word not in commands:
            return False
        node = commands[word]
    return True


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert list(_commands("`FOO=1 maeari dead replay ENTRY` and `maeari status`")) == ["dead replay", "status"]
    assert _exists("dead replay") and _exists("up")
    assert not _exists("dead rise") and not _exists("fly")


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_command_exists(page: Path) -> None:
    assert [words for words in _commands(page.read_text("utf-8")) if not _exists(words)] == []


def test_the_pages_name_commands_at_all() -> None:
    named = [words for page in PAGES for words in _commands(page.read_text("utf-8"))]
    for command in ("up", "down", "status", "doctor", "ask", "dead list", "job show", "voice enrol"):
        assert any(words.startswith(command) for words in named), command


@pytest.mark.parametrize("page", [*PAGES, *PROFILES], ids=_name)
def test_every_setting_exists(page: Path) -> None:
    known = {f"MAEARI_{name.upper()}" for name in Settings.model_fields} | NOT_SETTINGS
    assert set(re.findall(r"MAEARI_[A-Z0-9_]*[A-Z0-9]", page.read_text("utf-8"))) <= known


@pytest.mark.parametrize("profile", PROFILES, ids=_name)
def test_a_profile_is_made_of_values_that_the_settings_take(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line for line in profile.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    monkeypatch.delenv("MAEARI_LOG_LEVEL")  # the tests' own
    given = Settings(_env_file=profile).model_fields_set
    assert {f"MAEARI_{name.upper()}" for name in given} == {line.partition("=")[0] for line in lines}


def test_the_laptop_profile_is_the_defaults() -> None:
    written = Settings(_env_file=ROOT / "deploy" / "profiles" / "laptop.env")
    assert written.model_dump() == Settings(_env_file=None).model_dump()


def _keys() -> set[str]:
    keys = Keys("maeari:")
    named = {keys.job("<id>"), keys.events("<id>"), keys.stages("<id>"), keys.presence("<id>"), keys.worker("<name>")}
    named |= {keys.session("<tenant>", "<pack>", "<session>"), keys.shares("<queue>"), keys.pace("<queue>")}
    named |= {keys.open, keys.dead, keys.config, keys.cancel_channel, f"{CELERY_RESULT}<id>"}
    named |= {queue_list("<queue>"), queue_list("<queue>", BATCH)}
    return named | {keys.parked("<queue>", 0, "<tenant>").replace(":0:", ":<priority>:")}


def test_the_key_table_is_the_code_s() -> None:
    table = WIRE.split("\n## Keys\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
    assert {key for row in rows for key in re.findall(r"`([^`]+)`", row)} == _keys()
    members = {name for name, value in vars(Keys).items() if not name.startswith("_") and name != "prefix"}
    assert members == {"job", "events", "stages", "presence", "session", "worker", "open", "dead", "config",
                       "cancel_channel", "parked", "shares", "pace"}, "a new key belongs into the table"  # fmt: skip


def test_no_other_key_is_named() -> None:
    patterns = "|".join(re.sub(r"\\?<\w+\\?>", r"[^\\s`\"]+", re.escape(key)) for key in _keys() if ":" in key)
    named = {key for key in re.findall(r"maeari:[a-z]+[^\s`\")]*", WIRE) if not key.endswith(":")}
    assert [key for key in named if not re.fullmatch(patterns, key)] == []


def _column(title: str, column: int) -> set[str]:
    """Code words in a column of the first table behind the heading `title`."""
    section = WIRE.split(f"\n{title}\n")[1].split("\n#")[0]
    rows = [row.split("|") for row in section.splitlines() if row.startswith("| `")]
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row[column])}


def test_the_event_types_are_the_code_s() -> None:
    kinds = {kind.model_fields["type"].default for kind in get_args(get_args(Event)[0])}
    assert _column("## Follow it", 1) == kinds


def test_the_error_codes_are_the_code_s() -> None:
    assert _column("## Errors", 1) == set(by_code())


def test_the_tasks_are_those_of_the_catalog() -> None:
    public = {spec.name: spec for spec in CATALOG.values() if spec.public}
    assert _column("### Tasks", 1) == set(public)
    for row in re.findall(r"^\| `(\S+\.\S+)` \| `(\S+)` \| (.+?) \|", WIRE, re.MULTILINE):
        task, queue, fields = row
        assert queue == public[task].queue
        named = {word for span in re.findall(r"`([^`]+)`", fields) for word in span.split()}
        own = set(public[task].request.model_fields) - {"tenant", "schema_version"}
        assert own - {"seq", "speak"} == named, task
        required = {name for name, info in public[task].request.model_fields.items() if info.is_required()}
        assert required <= set(re.findall(r"\*\*`(\w+)`\*\*", fields)), task
