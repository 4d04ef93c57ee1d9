"""The form of an error in the protocols of others. The API's own errors are problems (`serving.problems`)."""

import json

#: What MLflow's clients know as the code of an error, by HTTP status.
MLFLOW_CODES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    409: "RESOURCE_CONFLICT",
    429: "REQUEST_LIMIT_EXCEEDED",
    503: "TEMPORARILY_UNAVAILABLE",
}
INVOCATIONS, PING = "/invocations", "/ping"


def foreign_error(path: str, status: int, text: str) -> bytes | None:
    """The body of an error, as JSON, in the protocol that `path` belongs to; None where it is a path of the API itself.

    >>> foreign_error("/v2/models/rnn", 404, "there is no model rnn")
    b'{"error": "there is no model rnn"}'
    >>> foreign_error("/v1/models/rnn", 404, "there is no model rnn") is None
    True
    """
    if path == "/v2" or path.startswith("/v2/"):
        return json.dumps({"error": text}).encode()
    if path in (PING, INVOCATIONS):
        code = MLFLOW_CODES.get(status, "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR")
        return json.dumps({"error_code": code, "message": text}).encode()
    return None
