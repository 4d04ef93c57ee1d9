"""The job that makes a backup, and the sensor that asks for one after every evening."""

import dagster as dg

from stock_assets.defs.runs import request_or_wait
from stock_assets.defs.sensors import Answer, Tick, platform_sensor
from stock_assets.defs.tables import Clock, job_of
from stock_assets.lifecycle.materialize.backup import back_up, backup_due
from stock_assets.objects import Place
from stock_assets.settings import Settings

JOB = "backup"


def backup_job(settings: Settings, target: Place) -> dg.JobDefinition:
    """The job `backup`, whose backups go below `target`."""

    # no pool: it reads, and a writer waits for it as for any reader
    @dg.op(name="make_backup", description="Copies the data folder to a folder of its own, which is renamed last.")
    def make_backup(context: dg.OpExecutionContext, clock: dg.ResourceParam[Clock]) -> None:
        backup = back_up(settings, target, keep=settings.backup_keep, now=clock())
        counts = {"rows": sum(backup.manifest.rows.values()), "files": len(backup.manifest.files)}
        context.add_output_metadata({"folder": str(backup.folder), "new_bytes": backup.new_bytes, **counts})

    return job_of(
        make_backup,
        JOB,
        description=(
            f"Copies the store, the models, Dagster's memory and the settings file to {target}, keeps the newest "
            f"{settings.backup_keep} and removes older ones. The same from a shell: `stock-assets backup`."
        ),
    )


def backup_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """The sensor `backup`; none where the setting `backup_dir` is unset."""
    target = settings.backup_dir
    if target is None:
        return []

    @platform_sensor(
        settings,
        "backup",
        seconds=600,
        job=JOB,
        description=(
            f"Makes a backup below {target} once a session is predicted that the newest backup there lacks, while "
            "nothing else is under way. A backup that fails raises an alert like any failed run, and is tried again."
        ),
    )
    def backup(tick: Tick) -> Answer:
        work_or_reason = backup_due(target, tick.state)
        return (
            dg.SkipReason(work_or_reason)
            if isinstance(work_or_reason, str)
            else request_or_wait(tick.context, work_or_reason, "backup", now=tick.now)
        )

    return [backup]
