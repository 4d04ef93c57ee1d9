"""What the API is compared with: a pyfunc that looks a row up for `mlflow models serve`, and a FastAPI over DuckDB.

python -m benchmarks.serving_rivals save DATA_DIR FOLDER
python -m benchmarks.serving_rivals duckdb STORE PORT
"""

import sys
from pathlib import Path


def save(data_dir: Path, folder: Path) -> None:
    """Saves a pyfunc that holds the newest session of the publication in `data_dir`."""
    import mlflow

    from stock_assets.publication.read import open_publication

    publication = open_publication(data_dir / "published")
    assert publication is not None
    rows = publication.predictions(publication.pointer.sessions[-1])
    by_ticker = {row["ticker"]: row for row in rows.to_dicts() if row["model"] == "rnn"}

    class Lookup(mlflow.pyfunc.PythonModel):  # pyright: ignore[reportPrivateImportUsage]
        """The row of each ticker of a request."""

        def __init__(self, rows: dict) -> None:
            self.rows = {
                ticker: {name: row[name] for name in ("p_sell", "p_hold", "p_buy")} for ticker, row in rows.items()
            }

        def predict(self, context, model_input, params=None):  # noqa: ARG002
            return [self.rows[ticker] for ticker in model_input["ticker"]]

    mlflow.pyfunc.save_model(str(folder), python_model=Lookup(by_ticker), pip_requirements=["mlflow"])


def serve_duckdb(store: Path, port: int) -> None:
    """Answers GET /TICKER from the newest session, with a connection per request."""
    import duckdb
    import uvicorn
    from fastapi import FastAPI

    statement = (
        "SELECT ticker, session::VARCHAR AS session, model_version, p_sell, p_hold, p_buy, score "
        "FROM model.predictions "
        "WHERE ticker = ? AND model = 'rnn' ORDER BY session DESC LIMIT 1"
    )
    app = FastAPI()

    @app.get("/{ticker}")
    def lookup(ticker: str) -> dict:
        with duckdb.connect(str(store), read_only=True) as connection:
            answer = connection.execute(statement, [ticker])
            names = [name for name, *_ in answer.description or ()]
            return dict(zip(names, answer.fetchone() or (), strict=True))

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    what, first, second = sys.argv[1:]
    if what == "save":
        save(Path(first), Path(second))
    else:
        serve_duckdb(Path(first), int(second))
