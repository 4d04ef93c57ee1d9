"""The one name that is borrowed from inside MLflow is there, and is missed loudly."""

from importlib.metadata import version
from pathlib import Path

import pytest

from stock_assets.errors import PrivateApiError
from stock_assets.settings import PROJECT_DIR


def test_a_name_that_is_gone_is_an_error_with_the_way_out():
    from stock_assets.private.mlflow import TRIED_WITH, borrowed

    for module, name in (("mlflow.store.tracking.sqlalchemy_store", "Gone"), ("mlflow.gone", "SqlAlchemyStore")):
        with pytest.raises(PrivateApiError, match=f"has no {module}.{name}, .*=={TRIED_WITH}.*MLFLOW=off") as caught:
            borrowed(module, name)
        assert len(str(caught.value).splitlines()) == 1
    assert version("mlflow") == TRIED_WITH
    assert f"mlflow=={TRIED_WITH}" in (PROJECT_DIR / "constraints.txt").read_text().splitlines()


def test_only_one_file_reaches_into_mlflow():
    package = PROJECT_DIR / "stock_assets"
    inside = {path.relative_to(package) for path in package.rglob("*.py") if "mlflow.store" in path.read_text()}
    assert inside == {Path("private/mlflow.py")}
