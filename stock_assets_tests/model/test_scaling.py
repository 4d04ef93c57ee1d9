from datetime import date

import numpy as np
import polars as pl
import pytest

from stock_assets.errors import ArtifactError, BadBarsError
from stock_assets.model.scaling import fit_scaler, require_schema, schema_hash, standardised

MADE_FOR = {"columns": ["a", "b"], "schema": schema_hash(["a", "b"])}


def test_a_model_is_asked_only_with_the_columns_it_was_made_for():
    require_schema("rnn-1", MADE_FOR, ["a", "b"])


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (["a"], "lacking now: b"),
        (["a", "b", "c"], "unknown to it: c"),
        (["a", "c"], "lacking now: b; unknown to it: c"),
        (["b", "a"], "in another order"),
    ],
)
def test_other_columns_are_refused_and_named(columns: list[str], told: str):
    with pytest.raises(ArtifactError, match=f"rnn-1 .*{told}.*Materialize its model year again"):
        require_schema("rnn-1", MADE_FOR, columns)


def test_a_description_without_a_schema_is_refused():
    with pytest.raises(ArtifactError, match="schema None"):
        require_schema("rnn-1", {}, ["a"])


def rows_of(**columns: list[float | None]) -> pl.DataFrame:
    count = len(next(iter(columns.values())))
    return pl.DataFrame(
        {"ticker": [f"T{i}" for i in range(count)], "session": [date(2018, 1, 2)] * count, **columns},
        schema_overrides=dict.fromkeys(columns, pl.Float32),
    )


def test_a_null_of_the_market_context_stands_for_the_training_mean():
    rows = rows_of(vix_level=[1.0, None, 3.0], x=[1.0, 2.0, 6.0])
    mean, std = fit_scaler(rows, ["vix_level", "x"])
    assert mean.tolist() == [2.0, 3.0]
    assert std[0] == 1.0
    scaled = standardised(rows, ["vix_level", "x"], mean=mean, std=std)
    assert scaled[:, 0].tolist() == [-1.0, 0.0, 1.0]
    assert scaled[:, 1] == pytest.approx((np.array([1, 2, 6]) - 3) / std[1])


def test_a_context_column_that_is_null_throughout_is_constant():
    rows = rows_of(index_vol_22=[None, None])
    mean, std = fit_scaler(rows, ["index_vol_22"])
    assert (mean.tolist(), std.tolist()) == ([0.0], [1.0])
    assert standardised(rows, ["index_vol_22"], mean=mean, std=std).tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize(("column", "value"), [("x", None), ("x", float("nan")), ("vix_level", float("nan"))])
def test_any_other_value_that_is_not_finite_is_named(column: str, value: float | None):
    rows = rows_of(**{column: [1.0, value, 2.0, value]})
    expected = rf"features of T1 at 2018-01-02: {column} is (None|nan), as are 1 more row\(s\)"
    with pytest.raises(BadBarsError, match=expected):
        fit_scaler(rows, [column])
    with pytest.raises(BadBarsError, match=expected):
        standardised(rows, [column], mean=np.zeros(1), std=np.ones(1))
