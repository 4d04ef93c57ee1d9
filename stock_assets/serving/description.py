"""The description of the routes for OpenAPI: what each route says of itself, and what stands around all of them."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from stock_assets.serving.problems import EVERYWHERE, SCHEMA, documented
from stock_assets.serving.protocols.forms import foreign_error
from stock_assets.serving.routes import batch


def describe_everywhere(paths: Mapping[str, Mapping[str, Any]]) -> None:
    """Adds EVERYWHERE to the routes of `paths`, as OpenAPI lists them, whose errors are problems."""
    for operation in (method for path, methods in paths.items() for method in methods.values() if has_problems(path)):
        slow = ("slow-body",) if "requestBody" in operation else ()
        for status, response in documented(*EVERYWHERE, *slow).items():
            before = operation["responses"].setdefault(str(status), {**response, "description": ""})
            parts = before["description"].split("; ") + response["description"].split("; ")
            before["description"] = "; ".join(dict.fromkeys(filter(None, parts)))


def has_problems(path: str) -> bool:
    """Whether the errors of a path are problems, and not those of another protocol."""
    return foreign_error(path, 400, "") is None


def described(app: FastAPI) -> dict[str, Any]:
    """The description of the routes, made once."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = SCHEMA
        question = batch.Batch.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= {**question.pop("$defs"), "Batch": question}
        describe_everywhere(schema["paths"])
        app.openapi_schema = schema
    return app.openapi_schema
