"""The profiles of an installation: what `stock-assets init --profile` writes beside the settings file.

`single` is the settings file alone. `team` and `cloud` have a folder of their own, which is DAGSTER_HOME of their web
server and daemon: `dagster.yaml`, the project's own with Dagster's storage on Postgres, and `workspace.yaml` with the
code server. Addresses with a password stay in the environment: no file that is written here holds one.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from stock_assets.errors import SettingsError
from stock_assets.settings import PROJECT_DIR, Settings
from stock_assets.settings_file import FILE_NAME

INSTANCE, WORKSPACE = "dagster.yaml", "workspace.yaml"
#: What the project's own dagster.yaml says of storage, and of what may run at once.
_OWN_STORAGE = "    module: stock_assets.cli.home\n    class: ProjectStorage\n    config: {}\n"
_OWN_LIMITS = "concurrency:\n"

_STORAGE = """\
    module: stock_assets.cli.team_home
    class: TeamStorage
    config:
      # postgresql+psycopg2://user@host:5432/database; the password stands there, or in PGPASSWORD or PGPASSFILE
      postgres_url:
        env: STOCK_ASSETS_DAGSTER
"""
_LIMITS = """\
concurrency:
  runs:
    # each run has a connection to Postgres or two
    max_concurrent_runs: 10
"""
_LAUNCHER = """\
run_launcher:
  # each run is a pod of the image of the code server, with the addresses of the environment
  module: dagster_k8s
  class: K8sRunLauncher
  config:
    load_incluster_config: true
    job_namespace:
      env: RUN_NAMESPACE
    service_account_name:
      env: RUN_SERVICE_ACCOUNT
    job_image:
      env: RUN_IMAGE
    instance_config_map:
      env: DAGSTER_CONFIG_MAP
    env_vars:
      - STOCK_ASSETS_DAGSTER
"""
_WORKSPACE = """\
# The code server: `dagster api grpc -m stock_assets.definitions -h 0.0.0.0 -p 4000` on the host that has the store.
load_from:
  - grpc_server:
      host:
        env: CODE_SERVER_HOST
      port: 4000
      location_name: stock_assets
"""


class Profile(StrEnum):
    """Where an installation runs: one machine, several hosts, Kubernetes."""

    SINGLE = "single"
    TEAM = "team"
    CLOUD = "cloud"


#: What the environment of the processes of a profile must hold.
VARIABLES: Mapping[Profile, tuple[str, ...]] = {
    Profile.SINGLE: (),
    Profile.TEAM: ("STOCK_ASSETS_DAGSTER", "CODE_SERVER_HOST"),
    Profile.CLOUD: (
        "STOCK_ASSETS_DAGSTER",
        "CODE_SERVER_HOST",
        "RUN_NAMESPACE",
        "RUN_SERVICE_ACCOUNT",
        "RUN_IMAGE",
        "DAGSTER_CONFIG_MAP",
    ),
}


def files_of(profile: Profile, folder: Path) -> dict[Path, str]:
    """The files of a profile beside its settings file in `folder`. Raises SettingsError in the folder of the project,
    whose own dagster.yaml is that of `single`."""
    if profile is Profile.SINGLE:
        return {}
    if folder.resolve() == PROJECT_DIR:
        raise SettingsError(
            f"{folder} has the dagster.yaml of the profile single; expected a folder of its own for the profile "
            f"{profile}: stock-assets --config FOLDER/{FILE_NAME} init --profile {profile}"
        )
    text = (PROJECT_DIR / INSTANCE).read_text()
    for part in (_OWN_STORAGE, _OWN_LIMITS):
        if text.count(part) != 1:
            raise SettingsError(f"{PROJECT_DIR / INSTANCE} was changed: it has no\n{part}")
    text = text[text.index("storage:\n") :].replace(_OWN_STORAGE, _STORAGE).replace(_OWN_LIMITS, _LIMITS)
    header = f"# The instance of the profile {profile}, which web server, daemon and code server share: docs/team.md.\n"
    instance = header + text + (_LAUNCHER if profile is Profile.CLOUD else "")
    return {folder / INSTANCE: instance, folder / WORKSPACE: _WORKSPACE}


def missing_variables(profile: Profile, environment: Mapping[str, str]) -> str | None:
    """What an environment still lacks for a profile, in one line; None where it has all."""
    missing = [name for name in VARIABLES[profile] if name not in environment]
    return f"set {', '.join(missing)} in the environment of its processes (docs/team.md)" if missing else None


def instance_file(settings: Settings, settings_file: Path | None) -> Path:
    """The dagster.yaml that `stock-assets run` works with: that of the profile beside the settings file where Dagster's
    storage is a database, else the project's own."""
    if settings.dagster_postgres and settings_file is not None:
        file_beside_settings = settings_file.parent / INSTANCE
        if file_beside_settings.exists():
            return file_beside_settings
    return PROJECT_DIR / INSTANCE
