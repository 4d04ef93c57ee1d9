"""The compose files: expanded by podman-compose, and what every service of theirs must be."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from stock_assets.settings import Settings
from stock_assets_tests.deploy.tools import DEPLOY, tool

COMPOSE = DEPLOY / "compose"
CONTROL, DATA, WORKER = "control.yaml", "data.yaml", "worker.yaml"
#: What runs in the image of the platform.
OURS = {"webserver", "daemon", "mlflow", "code-server", "api", "worker"}


def expanded(tmp_path: Path, *files: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What `compose config` makes of `files`. podman-compose asks podman for its version alone: a script answers."""
    podman = tmp_path / "podman"
    podman.write_text("#!/bin/sh\necho podman version 4.9.0\n")
    podman.chmod(0o755)
    named = [argument for file in files for argument in ("--file", file)]
    return subprocess.run(
        [tool("podman-compose"), *named, "config"],
        cwd=COMPOSE,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def example() -> dict[str, str]:
    lines = (COMPOSE / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def services(tmp_path: Path, *files: str) -> dict[str, Any]:
    answer = expanded(tmp_path, *files, **example())
    assert answer.returncode == 0, answer.stderr
    return yaml.safe_load(answer.stdout)["services"]


@pytest.mark.parametrize("files", [(CONTROL,), (DATA,), (WORKER,), (CONTROL, DATA, WORKER)], ids=" ".join)
def test_every_service_is_hardened_and_no_port_but_the_proxys_is_public(tmp_path: Path, files: tuple[str, ...]):
    for name, service in services(tmp_path, *files).items():
        assert service["read_only"] is True, name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["restart"] == "unless-stopped", name
        if name != "postgres":  # its image becomes another user by itself
            assert service["cap_drop"] == ["ALL"], name
        if name in OURS:
            assert service["user"] == "10001:10001", name
            assert re.fullmatch(r".+@sha256:[0-9a-f]{64}", service["image"]), name
        if name != "proxy":
            assert service["healthcheck"], name
            assert all(port.startswith("10.10.0.") for port in service.get("ports", ())), name
        text = yaml.safe_dump(service)
        assert "docker.sock" not in text, name
        assert "privileged: true" not in text, name


def test_every_variable_of_ours_is_a_setting(tmp_path: Path):
    known = {f"STOCK_ASSETS_{name.upper()}" for name in Settings.model_fields} | {"STOCK_ASSETS_DAGSTER"}
    for name, service in services(tmp_path, CONTROL, DATA, WORKER).items():
        named = {*(service.get("environment") or {}), *service.get("secrets", ())}
        assert {each for each in named if each.startswith("STOCK_ASSETS_")} <= known, name


def test_what_is_published_and_trained_is_in_the_bucket_and_the_store_on_its_volume(tmp_path: Path):
    found = services(tmp_path, DATA)
    for name in ("code-server", "api"):
        assert found[name]["environment"]["STOCK_ASSETS_ARTIFACTS"] == example()["ARTIFACTS"]
        assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= set(found[name]["secrets"])
        assert "outgoing" in found[name]["networks"], "the bucket is outside"
    store = Path(found["code-server"]["environment"]["STOCK_ASSETS_STORE"])
    assert f"store:{store.parent}" in found["code-server"]["volumes"]
    lacking = {name: value for name, value in example().items() if name != "ARTIFACTS"}
    assert "s3://bucket/artifacts" in expanded(tmp_path, DATA, **lacking).stderr


def test_passwords_are_files_and_each_is_declared(tmp_path: Path):
    declared = {name: yaml.safe_load((COMPOSE / name).read_text())["secrets"] for name in (CONTROL, DATA, WORKER)}
    for file, secrets in declared.items():
        for name, service in services(tmp_path, file).items():
            assert set(service.get("secrets", ())) <= set(secrets), name
            environment = service.get("environment") or {}
            assert not [key for key in environment if re.search(r"(PASSWORD|TOKEN|KEY|SECRET|DAGSTER)$", key)], name


@pytest.mark.parametrize(("file", "missing"), [(CONTROL, "UI_NAME"), (DATA, "API_NAME"), (DATA, "IMAGE")])
def test_a_missing_address_is_an_error_that_says_what_it_is(tmp_path: Path, file: str, missing: str):
    answer = expanded(tmp_path, file, **{name: value for name, value in example().items() if name != missing})
    assert answer.returncode != 0
    assert re.search(r"the (name under which|image by digest)", answer.stderr)


def test_secrets_are_made_once_and_only_their_owner_enters_the_folder(tmp_path: Path):
    script = tmp_path / "make-secrets"
    script.write_text((COMPOSE / "make-secrets").read_text())
    first = subprocess.run(["sh", str(script), "10.10.0.2"], capture_output=True, text=True, check=True)
    folder = tmp_path / "secrets"
    made = {path.name: path.read_text() for path in folder.iterdir()}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert made["STOCK_ASSETS_DAGSTER"] == (
        f"postgresql+psycopg2://stock_assets_dagster:{made['DAGSTER_PASSWORD']}@10.10.0.2:5432/dagster"
    )
    assert len({made[name] for name in made if name.endswith(("PASSWORD", "TOKEN"))}) == 5
    assert all(re.fullmatch("[0-9a-f]{48}", made[name]) for name in made if name.endswith(("PASSWORD", "TOKEN")))
    assert "secrets/proxy_users by hand" in first.stderr
    subprocess.run(["sh", str(script), "elsewhere"], capture_output=True, check=True)
    assert {path.name: path.read_text() for path in folder.iterdir()} == made
    files = [yaml.safe_load((COMPOSE / file).read_text()) for file in (CONTROL, DATA, WORKER)]
    needed = {name for file in files for name in file["secrets"]}
    by_hand = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "proxy_users"}
    assert needed == set(made) | by_hand
