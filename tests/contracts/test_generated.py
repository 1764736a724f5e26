"""Nothing generated is stale, and what is given to other languages is true."""

from __future__ import annotations

import json

from jsonschema import Draft202012Validator

from shared import envelope, generated
from shared.contracts.catalog import CATALOG
from shared.settings import ROOT, Settings


def test_generated_files_are_fresh() -> None:
    stale = [
        str(path)
        for path, content in generated.files().items()
        if not path.is_file() or path.read_text("utf-8") != content
    ]
    assert stale == [], "run: python -m shared.generated"
    expected = set(generated.files())
    assert set((ROOT / "shared" / "schemas").rglob("*.json")) <= expected, "files that nothing generates"


def test_every_public_task_has_a_golden_message_that_its_schema_and_the_guard_accept() -> None:
    assert set(generated.GOLDEN) == {spec.name for spec in CATALOG.values() if spec.public}
    for task, request in generated.GOLDEN.items():
        schema = CATALOG[task].request.model_json_schema()
        Draft202012Validator.check_schema(schema)
        assert [error.message for error in Draft202012Validator(schema).iter_errors(request)] == []
        CATALOG[task].request.model_validate(request)
        golden = (ROOT / "shared" / "schemas" / "golden" / f"{task}.json").read_text("utf-8")
        assert envelope.check(golden, CATALOG[task].queue).request == json.loads(json.dumps(request))


def test_every_setting_says_what_it_means() -> None:
    assert [name for name, info in Settings.model_fields.items() if not (info.description or "").strip()] == []
