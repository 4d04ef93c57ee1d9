"""What the features room keeps."""

import polars as pl

from stock_assets.features.context import DESCRIPTIONS as CONTEXT_DESCRIPTIONS
from stock_assets.features.indicators import DESCRIPTIONS as INDICATOR_DESCRIPTIONS
from stock_assets.features.stationary import DESCRIPTIONS as STATIONARY_DESCRIPTIONS
from stock_assets.tables import KEY_COLUMNS, Column, Table, declare

_RETURN = (("daily_bars", "total_return"),)
_PRICED = (*_RETURN, ("daily_bars", "close"))

INDICATORS = declare(
    Table(
        "indicators",
        "features",
        "the 25 classic columns",
        (
            *KEY_COLUMNS,
            *(
                Column(name, pl.Float64(), text, made_from=_RETURN if name.startswith("rsi") else _PRICED)
                for name, text in INDICATOR_DESCRIPTIONS.items()
            ),
        ),
        keys=("ticker", "session"),
        partitions="session",
    )
)

STATIONARY_FEATURES = declare(
    Table(
        "stationary_features",
        "features",
        f"{len(STATIONARY_DESCRIPTIONS)} scale-free inputs of the models: own bars, the market, peers, past earnings "
        f"days; {len(CONTEXT_DESCRIPTIONS)} of the indices, where there are some",
        (
            *KEY_COLUMNS,
            *(
                Column(name, pl.Float64(), text)
                for name, text in (STATIONARY_DESCRIPTIONS | CONTEXT_DESCRIPTIONS).items()
            ),
        ),
        keys=("ticker", "session"),
        partitions="session",
    )
)

LABELS = declare(
    Table(
        "labels",
        "features",
        "buy, sell or hold: which barrier is touched first within 7 bars",
        (
            *KEY_COLUMNS,
            Column(
                "label",
                pl.Int8(),
                "1 buy, -1 sell, 0 hold: which barrier the total return touches first",
                made_from=_RETURN,
            ),
            Column(
                "touch_session",
                pl.Date(),
                "the session of the first touch; null for hold",
                made_from=_RETURN,
            ),
            Column(
                "horizon_end",
                pl.Date(),
                "the session on which the label became known",
                made_from=_RETURN,
            ),
            Column(
                "forward_return_1",
                pl.Float64(),
                "total return to the ticker's next bar",
                unit="fraction",
                made_from=_RETURN,
            ),
            Column(
                "forward_return_horizon",
                pl.Float64(),
                "total return over the whole horizon",
                unit="fraction",
                made_from=_RETURN,
            ),
        ),
        keys=("ticker", "session"),
        partitions="labelled session",
    )
)

PCA_MODEL = declare(
    Table(
        "pca_model",
        "features",
        "scaler and components, fitted before the first model year and on nothing later",
        (
            Column("pca_version", pl.String(), "hash of the numbers of the fit"),
            Column("component", pl.Int64(), "1 for the component that explains most"),
            Column("position", pl.Int64(), "place of the feature in the model's input, from 0"),
            Column("feature", pl.String(), "a column of stationary_features"),
            Column("loading", pl.Float64(), "weight of the standardised feature in the component"),
            Column("mean", pl.Float64(), "mean of the feature over the fit window"),
            Column("scale", pl.Float64(), "standard deviation of the feature over the fit window"),
            Column("explained_variance_ratio", pl.Float64(), "share of the fit window's variance in the component"),
            Column("fit_from", pl.Date(), "first session of the fit window"),
            Column("fit_through", pl.Date(), "last session of the fit window"),
            Column("n_rows", pl.Int64(), "rows of the fit window"),
        ),
        keys=("component", "position"),
    )
)

PCA_COMPONENTS = declare(
    Table(
        "pca_components",
        "features",
        "the scores on them",
        (
            *KEY_COLUMNS,
            Column("pca_version", pl.String(), "the fit that made the row"),
        ),
        keys=("ticker", "session"),
        numbered=Column("pc_", pl.Float64(), "score on a principal component; together they hold 95 % of the variance"),
        partitions="session",
    )
)
