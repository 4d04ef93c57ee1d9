"""The bodies of the Open Inference Protocol (KServe's V2): what a POST to …/infer asks for, and the answer. Pure.

The inputs are `ticker` and, where it is not the newest session, `session`, tensors of BYTES of one value per row; one
session serves all rows. The outputs are `p_sell`, `p_hold` and `p_buy`, and which session and version they are of.
Inputs are read in the JSON, and behind it as the extension for binary tensors has it, which is what Triton's client
sends by itself; outputs always stand in the JSON.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from stock_assets.serving.problems import quoted
from stock_assets.serving.protocols.invocations import json_object
from stock_assets.serving.protocols.items import (
    MOST_ITEMS,
    BadRequestError,
    Item,
    items_of_columns,
    require_columns,
    require_some,
)

#: name: datatype, of a tensor with one value per row.
INPUTS = {"ticker": "BYTES", "session": "BYTES"}
OUTPUTS = {"p_sell": "FP64", "p_hold": "FP64", "p_buy": "FP64", "session": "BYTES", "model_version": "BYTES"}
PLATFORM = "stock_assets_publication"


@dataclass(frozen=True)
class Inference:
    """What one request asks for."""

    items: list[Item]
    id: str | None
    """repeated in the answer"""
    outputs: tuple[str, ...]
    """their names, in the order of the answer"""


def parse_inference(body: bytes, json_bytes: str | None = None) -> Inference:
    """`json_bytes` is the header Inference-Header-Content-Length: the bytes before the binary tensors, where there are
    some. Raises BadRequestError."""
    end = len(body)
    if json_bytes is not None:
        if not (json_bytes.isascii() and json_bytes.isdigit() and int(json_bytes) <= end):
            raise BadRequestError(f"Inference-Header-Content-Length is {quoted(json_bytes)}; expected at most {end}")
        end = int(json_bytes)
    question = json_object(body[:end])
    identity = question.get("id")
    if identity is not None and not isinstance(identity, str):
        raise BadRequestError(f"id is {type(identity).__name__}; expected a text")
    tensors = _named_tensors(question.get("inputs"), "inputs")
    require_columns(name for name, _ in tensors)
    values, binary_data = {}, body[end:]
    for name, tensor in tensors:
        size = _binary_size(name, tensor, len(binary_data))
        data = tensor.get("data") if size is None else _texts(name, binary_data[:size])
        binary_data = binary_data[size or 0 :]
        values[name] = _values(name, tensor, data)
    if binary_data:
        raise BadRequestError(f"{len(binary_data)} byte(s) follow the last binary tensor; expected none")
    items = items_of_columns(values["ticker"], values.get("session"))
    return Inference(items, identity, _outputs(question.get("outputs")))


def _named_tensors(tensors: object, field: str) -> list[tuple[str, Mapping[str, Any]]]:
    if not isinstance(tensors, list) or not all(
        isinstance(tensor, dict) and isinstance(tensor.get("name"), str) for tensor in tensors
    ):
        raise BadRequestError(f"expected {field} to be a list of tensors, each an object with a name")
    return [(tensor["name"], tensor) for tensor in tensors]


def _binary_size(name: str, tensor: Mapping[str, Any], remaining_bytes: int) -> int | None:
    """How many of the `remaining_bytes` behind the JSON are the tensor; None where it stands in the JSON."""
    parameters = tensor.get("parameters") or {}
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None:
        return None
    if type(size) is not int or not 0 <= size <= remaining_bytes or "data" in tensor:
        raise BadRequestError(
            f"the binary_data_size of {name} is {quoted(size)}, and {remaining_bytes} byte(s) are left for it"
        )
    return size


def _texts(name: str, content: bytes) -> list[object]:
    """The elements of a binary tensor of BYTES: of each four bytes of its length, little-endian, and its text."""
    texts, place = [], 0
    while place < len(content):
        length = int.from_bytes(content[place : place + 4], "little")
        text = content[place + 4 : place + 4 + length]
        if place + 4 > len(content) or len(text) < length:
            raise BadRequestError(f"the binary tensor {name} is cut short; expected texts after lengths of 4 bytes")
        texts.append(text.decode(errors="replace"))
        place += 4 + length
    return texts


def _values(name: str, tensor: Mapping[str, Any], data: object) -> list[object]:
    """The values of an input, one per row."""
    if tensor.get("datatype") != INPUTS[name]:
        raise BadRequestError(f"the datatype of {name} is {quoted(tensor.get('datatype'))}; expected {INPUTS[name]}")
    values = _flat(data)
    require_some(len(values))
    shape = tensor.get("shape")
    sizes = shape if isinstance(shape, list) else []
    if not (1 <= len(sizes) <= 2 and all(type(size) is int and size >= 0 for size in sizes)):
        raise BadRequestError(f"the shape of {name} is {quoted(shape)}; expected [rows] or [rows, 1]")
    if prod(sizes) != len(values) or sizes[1:] not in ([], [1]):
        raise BadRequestError(f"the shape of {name} is {quoted(shape)}, and it has {len(values)} value(s)")
    return values


def _flat(data: object) -> list[object]:
    """The values of a tensor in row-major order, which may be nested as its shape is."""
    if not isinstance(data, list):
        raise BadRequestError(f"the data of a tensor is {type(data).__name__}; expected a list")
    if len(data) > MOST_ITEMS:
        require_some(len(data))
    return [value for row in data for value in (row if isinstance(row, list) else [row])]


def _outputs(requested: object) -> tuple[str, ...]:
    """The names of the outputs that are asked for; all where none is."""
    if requested is None or requested == []:
        return tuple(OUTPUTS)
    names = [name for name, _ in _named_tensors(requested, "outputs")]
    if unknown := [name for name in names if name not in OUTPUTS]:
        raise BadRequestError(f"there is no output {quoted(unknown[0])}; expected {', '.join(OUTPUTS)}")
    return tuple(dict.fromkeys(names))


def inference_answer(
    inference: Inference, rows: Sequence[Mapping[str, Any]], *, model: str, version: str | None, publication: str
) -> dict[str, Any]:
    """What the answer holds. Every row of `rows` is predicted."""
    outputs = [
        {"name": name, "datatype": OUTPUTS[name], "shape": [len(rows)], "data": [row[name] for row in rows]}
        for name in inference.outputs
    ]
    head: dict[str, Any] = {"model_name": model}
    if version is not None:
        head["model_version"] = version
    if inference.id is not None:
        head["id"] = inference.id
    return {**head, "parameters": {"publication": publication}, "outputs": outputs}


def model_metadata(model: str, versions: Sequence[str]) -> dict[str, Any]:
    """What `/v2/models/{model}` answers.

    >>> model_metadata("rnn", ["rnn-2025-12-31-0a0a0a0a"])["inputs"][0]
    {'name': 'ticker', 'datatype': 'BYTES', 'shape': [-1]}
    """

    def described(tensors: Mapping[str, str]) -> list[dict[str, Any]]:
        return [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in tensors.items()]

    return {
        "name": model,
        "versions": [*versions],
        "platform": PLATFORM,
        "inputs": described(INPUTS),
        "outputs": described(OUTPUTS),
    }
