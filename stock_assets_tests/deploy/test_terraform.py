"""The Terraform modules: format and validity; the one of AWS is applied against moto, and a second plan is empty."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from stock_assets_tests.deploy.tools import DEPLOY, free_port, require_module, tool
from stock_assets_tests.waiting import until

MODULES = ("aws", "digitalocean")
#: Against moto: its address, made-up keys, and no names of buckets in host names.
OVERRIDE = """
provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "testing"
  secret_key                  = "testing"
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
}
"""
VARIABLES = {
    "bucket": "stock-assets-test",
    "zones": ["eu-central-1a", "eu-central-1b"],
    "administrators": ["192.0.2.0/24"],
    # moto 5.2 lacks add-ons of EKS, selections of AWS Backup and who a budget's alarm is mailed to
    "cluster_addons": [],
    "select_volumes": False,
    "budget_mail": [],
}
#: What moto 5.2 forgets of what it was told, so that a second plan sets it again: resource, and its attributes.
FORGOTTEN = {
    "aws_backup_plan.this": {"tags_all"},
    "aws_backup_vault.this": {"tags_all"},
    "aws_db_parameter_group.this": {"parameter"},
    "aws_eks_node_group.data": None,  # it adds a key for SSH, which would replace it
    "aws_launch_template.nodes": None,  # it has no security group of a cluster, which is named here
    "aws_vpc_security_group_ingress_rule.database": {"description"},
    "aws_vpc_security_group_ingress_rule.nodes": {"description"},
}


def mirror() -> Path | None:
    """The folder of providers that TERRAFORM_PROVIDERS names, or where Terraform itself looks for one."""
    named = os.environ.get("TERRAFORM_PROVIDERS", "/usr/local/share/terraform/plugins")
    return Path(named) if Path(named).is_dir() else None


class Module:
    """A copy of a module, in which Terraform may write."""

    def __init__(self, name: str, folder: Path, **environment: str) -> None:
        shutil.copytree(DEPLOY / "s3", folder / "s3")
        self.folder = folder / "terraform" / name
        shutil.copytree(DEPLOY / "terraform" / name, self.folder, ignore=shutil.ignore_patterns(".terraform*"))
        configuration = folder / "terraformrc"
        configuration.write_text(f'provider_installation {{\n  filesystem_mirror {{ path = "{mirror()}" }}\n}}\n')
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "CHECKPOINT_DISABLE": "1", **environment}
        self.environment["TF_CLI_CONFIG_FILE"] = str(configuration)

    def run(self, *words: str, accepts: tuple[int, ...] = (0,)) -> str:
        answer = subprocess.run(
            [tool("terraform"), *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode in accepts, answer.stdout + answer.stderr
        return answer.stdout


@pytest.fixture
def aws(tmp_path: Path) -> Module:
    tool("terraform")
    if (folder := mirror()) is None or not list(folder.glob("registry.terraform.io/hashicorp/aws")):
        pytest.skip("the provider aws is in no folder of providers (TERRAFORM_PROVIDERS)")
    module = Module("aws", tmp_path)
    module.run("init", "-backend=false", "-input=false")
    return module


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_formatted(name: str, tmp_path: Path):
    Module(name, tmp_path).run("fmt", "-check", "-diff", "-recursive")


def test_the_module_of_aws_is_valid(aws: Module):
    assert json.loads(aws.run("validate", "-json"))["diagnostics"] == []


def test_no_password_is_a_variable_or_a_value():
    for module in MODULES:
        text = "\n".join(path.read_text() for path in sorted((DEPLOY / "terraform" / module).glob("*.tf")))
        assert not re.findall(r'variable "[^"]*(password|secret|token)[^"]*"', text)
        assert not re.findall(r'\b(password|access_key|secret_key|token)\s*=\s*"', text)


@pytest.mark.parametrize("name", MODULES)
def test_the_outputs_name_the_four_addresses(name: str):
    text = (DEPLOY / "terraform" / name / "outputs.tf").read_text()
    assert {"dagster", "store", "artifacts", "mlflow"} <= set(re.findall(r'^output "(\w+)"', text, flags=re.MULTILINE))
    assert "postgresql+psycopg2://" in text


def test_the_rights_on_the_bucket_are_those_that_are_needed():
    policy = json.loads((DEPLOY / "s3" / "policy.json").read_text())
    actions = {
        each
        for rule in policy["Statement"]
        for each in [rule["Action"]]
        for each in (each if isinstance(each, list) else [each])
    }
    assert actions == {
        *("s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"),
    }  # earlier versions stay: nothing here removes one
    resources = [
        each
        for rule in policy["Statement"]
        for each in (rule["Resource"] if isinstance(rule["Resource"], list) else [rule["Resource"]])
    ]
    assert all(re.fullmatch(r"arn:aws:s3:::BUCKET(/[a-z]+/\*)?", each) for each in resources)
    assert 'replace(file("${path.module}/../../s3/policy.json")' in (DEPLOY / "terraform/aws/identities.tf").read_text()


@pytest.fixture
def moto(tmp_path: Path) -> Iterator[str]:
    require_module("moto.server")
    port = free_port()
    with (tmp_path / "moto.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-p", str(port)],
            env={**os.environ, "MOTO_IAM_LOAD_MANAGED_POLICIES": "true"},
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (tmp_path / "moto.log").read_text()
        try:
            return requests.get(f"{url}/moto-api/", timeout=10).ok
        except requests.ConnectionError:
            return False

    try:
        until(answers)
        yield url
    finally:
        process.terminate()
        process.wait()


@pytest.mark.deploy
def test_aws_is_applied_on_moto_and_a_second_plan_changes_nothing(aws: Module, moto: str):
    (aws.folder / "override.tf").write_text(OVERRIDE)
    (aws.folder / "test.auto.tfvars.json").write_text(json.dumps(VARIABLES))
    aws.environment["AWS_ENDPOINT_URL"] = moto
    aws.run("apply", "-auto-approve", "-input=false", "-parallelism=30")
    outputs = {name: each["value"] for name, each in json.loads(aws.run("output", "-json")).items()}
    assert re.fullmatch(
        r"postgresql\+psycopg2://stock_assets_dagster@[^@]+:5432/dagster\?sslmode=require", outputs["dagster"]
    )
    assert outputs["artifacts"] == "s3://stock-assets-test/artifacts"
    state = (aws.folder / "terraform.tfstate").read_text()
    assert '"password": null' in state
    aws.run("plan", "-input=false", "-out=second", "-detailed-exitcode", accepts=(0, 2))
    changed = {}
    for each in json.loads(aws.run("show", "-json", "second"))["resource_changes"]:
        if (change := each["change"])["actions"] not in (["no-op"], ["read"]):
            unknown = change.get("after_unknown") or {}
            before, after = change["before"] or {}, change["after"] or {}
            names = {
                name
                for name in {*before, *after, *unknown}
                if before.get(name) != after.get(name) or unknown.get(name) is True
            }
            changed[each["address"]] = names
    assert set(changed) <= set(FORGOTTEN)
    for address, names in changed.items():
        allowed = FORGOTTEN[address]
        assert allowed is None or names <= allowed, (address, names)


@pytest.mark.deploy
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("administrators", ["0.0.0.0/0"], "not 0.0.0.0/0"),
        ("zones", ["eu-central-1a"], "Expected two zones"),
        ("backup_days", 1, "Expected 7 to 35"),
        ("name", "Stocks!", "Expected 3 to 31 small letters"),
    ],
)
def test_a_wrong_variable_is_refused(aws: Module, moto: str, name: str, value: Any, message: str):
    (aws.folder / "override.tf").write_text(OVERRIDE)
    (aws.folder / "test.auto.tfvars.json").write_text(json.dumps({**VARIABLES, name: value}))
    aws.environment["AWS_ENDPOINT_URL"] = moto
    said = subprocess.run(
        [tool("terraform"), "plan", "-input=false", "-no-color"],
        cwd=aws.folder,
        env=aws.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 1
    assert message in " ".join(re.sub(r"[│╷╵]", " ", said.stderr).split())
