"""What is generated from the contracts and the settings: `python -m shared.generated` writes it anew.

JSON Schemas, the catalog and golden messages for producers in other languages (`shared/schemas/`), and the table of
settings (`docs/configuration.md`). `tests/contracts/test_generated.py` fails when a file is stale.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from . import envelope
from .contracts.catalog import CATALOG, TaskSpec
from .contracts.events import EVENT
from .errors import MaeariError, by_code
from .settings import ROOT, Settings
from .signing import UNSIGNED, Signing

GOLDEN: dict[str, dict[str, Any]] = {
    "turns.start": {"tenant": "acme", "pack": "artist", "session": "fan-7", "text": "오늘 무대 어땠어? 🌊"},
    "stt.transcribe": {"tenant": "acme", "audio": {"key": "acme/audio/question.wav"}, "language": "ko"},
    "llm.generate": {"tenant": "acme", "messages": [{"role": "user", "content": "안녕"}], "stream": True},
    "tts.synthesize": {"tenant": "acme", "text": "안녕! 반가워.", "voice": "artist"},
    "tts.enrol": {"tenant": "acme", "voice": "mom", "audio": [{"key": "acme/audio/mom.wav"}]},
    "rag.embed": {"tenant": "acme", "texts": ["안녕", "하늘"]},
    "rag.retrieve": {"tenant": "acme", "query": "좋아하는 색", "pack": "artist", "top_k": 3},
    "knowledge.add": {"tenant": "acme", "collection": "faq", "documents": [{"id": "a", "text": "환불은 7일 안에."}]},
    "knowledge.list": {"tenant": "acme"},
    "knowledge.delete": {"tenant": "acme", "collection": "faq", "documents": ["a"]},
    "knowledge.reembed": {"tenant": "acme", "collection": "faq"},
    "training.run": {"tenant": "acme", "recipe": "adapter-artist", "promote": True},
}
"""One small request of each public task."""


def files() -> dict[Path, str]:
    """Every generated file with its content."""
    schemas = ROOT / "shared" / "schemas"
    found = {schemas / "events.json": _json(EVENT.json_schema())}
    for spec in CATALOG.values():
        found[schemas / f"{spec.name}.request.json"] = _json(spec.request.model_json_schema())
        found[schemas / f"{spec.name}.result.json"] = _json(spec.result.model_json_schema(mode="serialization"))
    found[schemas / "catalog.json"] = _json({spec.name: _entry(spec) for spec in CATALOG.values()})
    found[schemas / "errors.json"] = _json({code: _error(kind) for code, kind in by_code().items()})
    for task, request in GOLDEN.items():
        found[schemas / "golden" / f"{task}.json"] = _json(_golden(task, request))
    found[schemas / "signing.json"] = _json(_signed())
    found[ROOT / "docs" / "configuration.md"] = _configuration()
    return found


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n"


def _entry(spec: TaskSpec) -> dict[str, Any]:
    return {
        "queue": spec.queue,
        "request": f"{spec.name}.request.json",
        "result": f"{spec.name}.result.json",
        "max_attempts": spec.max_attempts,
        "timeout_s": spec.timeout_s,
        "public": spec.public,
        "about": (spec.request.__doc__ or "").strip(),
    }


def _error(kind: type[MaeariError]) -> dict[str, Any]:
    return {"message": (kind.__doc__ or "").strip(), "retryable": kind.retryable}


def _golden(task: str, request: dict[str, Any], signing: Signing = UNSIGNED, deadline_ms: int = 0) -> dict[str, Any]:
    """The whole message, with the one random part made fixed."""
    built = envelope.build(task, "spring.0001", request, signing=signing, deadline_ms=deadline_ms)
    message: dict[str, Any] = json.loads(built)
    message["properties"]["delivery_tag"] = "00000000-0000-4000-8000-000000000000"
    return message


def _signed() -> dict[str, Any]:
    """A message that is signed, with everything that its signature is made of."""
    key, task, job_id, deadline_ms = "0123456789abcdef0123456789abcdef", "turns.start", "spring.0001", 1_800_000_000_000
    message = _golden(task, GOLDEN[task], Signing((key.encode(),)), deadline_ms)
    digest = hashlib.sha256(message["body"].encode()).hexdigest()
    signed = f"{job_id}\n{task}\n{deadline_ms}\n{digest}"
    return {"key": key, "body_sha256": digest, "signed_text": signed, "message": message}


def _configuration() -> str:
    lines = [
        "# Configuration",
        "",
        "Generated from `shared/settings.py` by `python -m shared.generated`. Every setting is an environment",
        "variable; a `.env` file in the working directory is read as well. A profile is a set of these values:",
        "`deploy/profiles/`.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for name, info in Settings.model_fields.items():
        default = str(info.default).replace(str(ROOT), ".")
        shown = f"`{default}`" if default else ""
        meaning = " ".join((info.description or "").split())
        lines.append(f"| `MAEARI_{name.upper()}` | {shown} | {meaning} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write every file."""
    for path, content in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")
    sys.stdout.write(f"{len(files())} files written\n")


if __name__ == "__main__":
    main()
