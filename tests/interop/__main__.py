"""`make interop`: compile the Java client, run its own tests and those against a real cluster; Maven's modules where Central is reachable.

The last line of output is one JSON object: what ran and passed, and what did not run and why.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.support.java import COMPILE, JVM, ROOT
from tests.support.servers import IN_MEMORY, RedisServer

CENTRAL = "https://repo.maven.apache.org/maven2/org/springframework/boot/spring-boot-dependencies/maven-metadata.xml"
CENTRAL_TIMEOUT_S = 5
MAVEN_TIMEOUT_S = 1200
UNREACHABLE = re.compile(r"Could not transfer|Unknown host|Connection (refused|reset|timed out)")
"""What Maven says when it cannot fetch something: then it has proved nothing, neither good nor bad."""

Report = dict[str, Any]


def compiled() -> tuple[Report, str]:
    """The core, its tests and the driver with plain javac; and their class path."""
    done = subprocess.run([COMPILE], stdout=subprocess.PIPE, text=True, check=False)
    return {"ran": True, "passed": done.returncode == 0}, done.stdout.strip()


def core_tests(class_path: str, folder: Path) -> Report:
    """The core's own JUnit tests, without Redis."""
    launcher = ["org.junit.platform.console.ConsoleLauncher", "--disable-banner", "--details=none"]
    where = ["--scan-classpath", str(ROOT / "build" / "java" / "classes"), "--reports-dir", str(folder)]
    done = subprocess.run([*JVM, "-cp", class_path, *launcher, *where], cwd=ROOT, check=False)
    return counted(folder / "TEST-junit-jupiter.xml", done.returncode)


def interop_tests(folder: Path) -> Report:
    """The Java client against workers at a real Redis."""
    report = folder / "interop.xml"
    command = [sys.executable, "-m", "pytest", "tests/interop", f"--junitxml={report}"]
    done = subprocess.run(command, cwd=ROOT, check=False)
    return counted(report, done.returncode)


def counted(report: Path, returncode: int) -> Report:
    """Figures of a JUnit report; one that is not there, or empty, has not passed."""
    suites = list(ElementTree.parse(report).iter("testsuite")) if report.is_file() else []
    tests, wrong, skipped = (
        sum(int(suite.get(name, 0)) for suite in suites for name in names)
        for names in (("tests",), ("failures", "errors"), ("skipped",))
    )
    passed = returncode == 0 and tests > 0 and wrong == skipped == 0
    return {"ran": True, "passed": passed, "tests": tests, "failed": wrong, "skipped": skipped}


def maven(folder: Path) -> Report:
    """Core, starter and sample with Maven, with their tests; not run where Maven or Central is missing."""
    if shutil.which("mvn") is None:
        return {"ran": False, "why": "there is no mvn; as root: apt-get install maven"}
    try:
        urllib.request.urlopen(CENTRAL, timeout=CENTRAL_TIMEOUT_S).close()
    except (urllib.error.URLError, OSError) as error:
        return {"ran": False, "why": f"Maven Central is not reachable ({error})"}
    command = ["mvn", "--batch-mode", "--no-transfer-progress", "verify"]
    server = RedisServer(folder / "redis", *IN_MEMORY)  # which the starter's port is tried at
    environment = os.environ | {"TEST_REDIS_PORT": str(server.port)}
    try:
        done = subprocess.run(
            command,
            cwd=COMPILE.parent,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            timeout=MAVEN_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return {"ran": False, "why": f"Maven took longer than {MAVEN_TIMEOUT_S} s"}
    finally:
        server.close()
    print(done.stdout)
    if done.returncode and UNREACHABLE.search(done.stdout):
        return {"ran": False, "why": "Maven could not fetch what it needs, see above"}
    return {"ran": True, "passed": done.returncode == 0}


def main() -> int:
    """Run everything; 0 when all that ran passed and nothing but Maven's part was left out."""
    with tempfile.TemporaryDirectory() as folder:
        compilation, class_path = compiled()
        report = {"core compiled with javac": compilation}
        if compilation["passed"]:
            report["core's own tests"] = core_tests(class_path, Path(folder))
            report["interop tests at a real Redis"] = interop_tests(Path(folder))
        report["starter and sample with Maven"] = maven(Path(folder))
    ran = [part for part in report.values() if part["ran"]]
    for name, part in report.items():
        said = ("passed" if part["passed"] else "FAILED") if part["ran"] else f"DID NOT RUN: {part['why']}"
        print(f"interop: {name}: {said}")
    passed = all(part["passed"] for part in ran)
    print(json.dumps({"interop": "passed" if passed else "failed", "parts": report}, ensure_ascii=False))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
