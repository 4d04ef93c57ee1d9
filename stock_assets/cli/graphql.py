"""Questions and orders to a running Dagster web server."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests

from stock_assets.errors import SourceError, StockAssetsError
from stock_assets.market.download import body_within, json_within
from stock_assets.private.dagster import IMPLICIT_ASSET_JOB_NAME

#: Seconds that one answer may take; launching ten years of partitions takes a few.
TIMEOUT = 120
#: Bytes of an answer: the plan of a backfill of decades has some millions.
MOST_BYTES = 200_000_000

LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
    ... on UnauthorizedError { message }
    ... on PartitionSetNotFoundError { message }
    ... on PartitionKeysNotFoundError { message }
    ... on ConflictingExecutionParamsError { message }
    ... on InvalidSubsetError { message }
    ... on RunConflict { message }
  }
}"""

#: The assets of a run may be of several partition sets, as a range of a backfill may not.
LAUNCH_RUN = """
mutation LaunchRun($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { id } }
    ... on PythonError { message }
    ... on UnauthorizedError { message }
    ... on InvalidSubsetError { message }
    ... on PipelineNotFoundError { message }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on RunConflict { message }
  }
}"""

RUN = """
query Run($id: ID!) {
  runOrError(runId: $id) {
    __typename
    ... on Run { id status tags { key value } assetSelection { path } }
    ... on RunNotFoundError { message }
    ... on PythonError { message }
  }
}"""

PROGRESS = """
query Progress($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    __typename
    ... on PythonError { message }
    ... on BackfillNotFoundError { message }
    ... on PartitionBackfill {
      status
      error { message }
      assetBackfillData { assetBackfillStatuses {
        ... on AssetPartitionsStatusCounts {
          assetKey { path } numPartitionsTargeted numPartitionsMaterialized numPartitionsFailed
        }
        ... on UnpartitionedAssetStatus { assetKey { path } materialized failed }
      } }
      runs(limit: 200) { id status tags { key value } assetSelection { path } }
    }
  }
}"""

#: Not stepStats of the runs: reading every event of theirs takes seconds, which the runs then lack.
LATEST = """
query Latest($keys: [AssetKeyInput!]!) {
  assetsLatestInfo(assetKeys: $keys) { assetKey { path } inProgressRunIds latestMaterialization { runId } }
}"""

OPEN_BACKFILLS = """
{ partitionBackfillsOrError(limit: 20) { ... on PartitionBackfills { results { id status } } } }
"""

LOCATIONS = """
{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus
    locationOrLoadError { __typename ... on PythonError { message }
      ... on RepositoryLocation { repositories { name } } } } } } }
"""

#: The states of a backfill that is not over.
OPEN = ("REQUESTED", "CANCELING", "FAILING")

CANCEL = """
mutation Cancel($id: String!) {
  cancelPartitionBackfill(backfillId: $id) {
    __typename
    ... on PythonError { message }
    ... on UnauthorizedError { message }
  }
}"""

#: A page holds at most 1,000 events, whatever limit the query sets.
FAILURES = """
query Failures($id: ID!, $after: String) {
  logsForRun(runId: $id, afterCursor: $after) { ... on EventConnection { cursor hasMore events {
    ... on ExecutionStepFailureEvent { stepKey error { message errorChain { error { message } } } }
  } } }
}"""


@dataclass(frozen=True)
class DagsterClient:
    """The GraphQL interface of the web server at `url` (http://127.0.0.1:3000)."""

    url: str
    token: str | None = field(default=None, repr=False)
    """what the server asks for where STOCK_ASSETS_UI_TOKEN is set"""

    def ask(self, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        """The `data` of the answer. Raises StockAssetsError when no server answers, or with its error."""
        try:
            answer = requests.post(
                f"{self.url}/graphql",
                json={"query": query, "variables": variables or {}},
                headers={"Authorization": f"Bearer {self.token}"} if self.token else {},
                timeout=TIMEOUT,
                stream=True,
            )
            if answer.status_code in (401, 403):
                raise StockAssetsError(f"the web server at {self.url} refused the request: {answer.text}")
            if answer.status_code >= 500:
                raise StockAssetsError(
                    f"the web server at {self.url} answered HTTP {answer.status_code}; expected the server of the same "
                    "settings: start this command with the STOCK_ASSETS_ variables or the --config of that `make run`"
                )
            answer.raise_for_status()
            body = json_within(body_within(answer, most_bytes=MOST_BYTES, seconds=TIMEOUT))
        except (requests.RequestException, ValueError, SourceError) as error:
            raise StockAssetsError(
                f"no Dagster web server answers at {self.url} ({type(error).__name__}); start it with `make run`"
            ) from error
        if body.get("errors"):
            raise StockAssetsError(f"Dagster refused the request: {body['errors'][0]['message']}")
        return body["data"]

    def require_guard(self) -> None:
        """Raises StockAssetsError where the server answers under a foreign Host: any web page could give it orders."""
        try:
            answer = requests.get(f"{self.url}/server_info", headers={"Host": "foreign.invalid"}, timeout=TIMEOUT)
        except requests.RequestException as error:
            raise StockAssetsError(f"no Dagster web server answers at {self.url} ({type(error).__name__})") from error
        if answer.status_code != 403:
            raise StockAssetsError(
                f"the web server at {self.url} answers under a foreign name (HTTP {answer.status_code}, expected 403): "
                "stock_assets' guard is not in front of it, and every web page could launch runs; is the storage in "
                "dagster.yaml the project's own?"
            )

    def is_ready(self) -> bool:
        """Whether the code location is loaded. Raises StockAssetsError with its message when it cannot be."""
        entries = self.ask(LOCATIONS)["workspaceOrError"]["locationEntries"]
        for entry in entries:
            problem = entry["locationOrLoadError"]
            if problem and problem["__typename"] == "PythonError":
                raise StockAssetsError(f"the assets could not be loaded: {problem['message'].strip()}")
            if entry["loadStatus"] != "LOADED":
                return False
        return bool(entries)

    def launch(self, partitions: Mapping[str, Sequence[tuple[str, str]] | None], title: str) -> str:
        """The id of a backfill of every asset in `partitions`: ranges of keys, or None where unpartitioned."""
        params = {
            "title": title,
            "partitionsByAssets": [
                {
                    "assetKey": {"path": [asset]},
                    **(
                        {"partitions": {"ranges": [{"start": start, "end": end} for start, end in ranges]}}
                        if ranges is not None
                        else {}
                    ),
                }
                for asset, ranges in partitions.items()
            ],
        }
        answer = self.ask(LAUNCH, {"params": params})["launchPartitionBackfill"]
        if answer["__typename"] != "LaunchBackfillSuccess":
            raise StockAssetsError(f"the backfill was not accepted: {answer.get('message', answer['__typename'])}")
        return answer["backfillId"]

    def launch_run(self, assets: Sequence[str], tags: Mapping[str, str]) -> str:
        """The id of a run of `assets`. Raises StockAssetsError where Dagster does not take it."""
        (entry,) = self.ask(LOCATIONS)["workspaceOrError"]["locationEntries"]
        selector = {
            "repositoryLocationName": entry["name"],
            "repositoryName": entry["locationOrLoadError"]["repositories"][0]["name"],
            "jobName": IMPLICIT_ASSET_JOB_NAME,
            "assetSelection": [{"path": [asset]} for asset in assets],
        }
        metadata = {"tags": [{"key": key, "value": value} for key, value in tags.items()]}
        params = {"selector": selector, "mode": "default", "executionMetadata": metadata}
        answer = self.ask(LAUNCH_RUN, {"params": params})["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            messages = [answer, *answer.get("errors", ())]
            reason = next((message["message"] for message in messages if "message" in message), answer["__typename"])
            raise StockAssetsError(f"the run of {', '.join(assets)} was not accepted: {reason}")
        return answer["run"]["id"]

    def run(self, run_id: str) -> dict[str, Any]:
        """Status, tags and assets of a run, as in `RUN`."""
        answer = self.ask(RUN, {"id": run_id})["runOrError"]
        if answer["__typename"] != "Run":
            raise StockAssetsError(f"run {run_id}: {answer.get('message', answer['__typename'])}")
        return answer

    def open_backfill(self) -> str | None:
        """The id of a backfill that is still under way, if only because its runs are being cancelled."""
        results = self.ask(OPEN_BACKFILLS)["partitionBackfillsOrError"].get("results", [])
        return next((backfill["id"] for backfill in results if backfill["status"] in OPEN), None)

    def cancel(self, backfill_id: str) -> None:
        """Has the backfill and its runs end. Raises StockAssetsError where Dagster does not take the order."""
        answer = self.ask(CANCEL, {"id": backfill_id})["cancelPartitionBackfill"]
        if answer["__typename"] != "CancelBackfillSuccess":
            raise StockAssetsError(
                f"backfill {backfill_id} goes on, it was not cancelled: {answer.get('message', answer['__typename'])}"
            )

    def backfill(self, backfill_id: str) -> dict[str, Any]:
        """Status, targets and runs of a backfill, as in `PROGRESS`."""
        answer = self.ask(PROGRESS, {"id": backfill_id})["partitionBackfillOrError"]
        if answer["__typename"] != "PartitionBackfill":
            raise StockAssetsError(f"backfill {backfill_id}: {answer.get('message', answer['__typename'])}")
        return answer

    def latest_runs(self, assets: Iterable[str]) -> dict[str, tuple[str | None, set[str]]]:
        """By asset: the id of the run that materialized it last, and of those that are about to."""
        answer = self.ask(LATEST, {"keys": [{"path": [asset]} for asset in assets]})["assetsLatestInfo"]
        return {
            "/".join(info["assetKey"]["path"]): (
                (info["latestMaterialization"] or {}).get("runId"),
                set(info["inProgressRunIds"]),
            )
            for info in answer
        }

    def failures(self, run_id: str) -> list[str]:
        """'step: message' of every step of the run that failed, with the message of our own error."""
        failures: list[str] = []
        page: dict[str, Any] = {"cursor": None, "hasMore": True}
        while page.get("hasMore"):
            page = self.ask(FAILURES, {"id": run_id, "after": page["cursor"]})["logsForRun"]
            for event in page.get("events", []):
                if error := event.get("error"):
                    chain = error.get("errorChain") or []
                    message = (chain[0]["error"] if chain else error)["message"].strip()
                    failures.append(f"{event['stepKey']}: {message}")
        return failures
