import pytest

from stock_assets.errors import ArtifactError
from stock_assets.model.scaling import require_schema, schema_hash

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
