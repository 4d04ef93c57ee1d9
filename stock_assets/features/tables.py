"""What the features room keeps. The tables of indicators and inputs follow the registries of their formulas."""

import polars as pl

from stock_assets.errors import TableError
from stock_assets.features import (
    announcement_features,
    fundamental_features,
    macro_features,
    market_context,
    text_features,
)
from stock_assets.features.daily import QUANTITIES
from stock_assets.features.formulas import Feature
from stock_assets.features.indicators import INDICATORS, Indicator
from stock_assets.features.side_features import GROUPS, side_features_table
from stock_assets.features.stationary import BAR_COLUMNS, FEATURES
from stock_assets.tables import KEY_COLUMNS, Column, Table, declare, redeclare

_RETURN = (("daily_bars", "total_return"),)
_PRICED = (*_RETURN, ("daily_bars", "close"))


def _indicators() -> Table:
    return Table(
        "indicators",
        "features",
        f"the {len(INDICATORS)} classic columns",
        (
            *KEY_COLUMNS,
            *(
                Column(name, pl.Float64(), indicator.text, "listing currency", _PRICED)
                if indicator.in_price
                else Column(name, pl.Float64(), indicator.text, made_from=_RETURN)
                for name, indicator in INDICATORS.items()
            ),
        ),
        keys=("ticker", "session"),
        partitions="session",
    )


def _stationary_features() -> Table:
    context = market_context.FEATURES
    return Table(
        "stationary_features",
        "features",
        f"{len(FEATURES)} scale-free inputs of the models: own bars, the market, peers, past earnings days; "
        f"{len(context)} of the indices, where there are some",
        (
            *KEY_COLUMNS,
            *(Column(name, pl.Float64(), feature.description) for name, feature in FEATURES.items()),
            *(
                Column(name, pl.Float64(), f"{feature.description}; null without the series")
                for name, feature in context.items()
            ),
        ),
        keys=("ticker", "session"),
        partitions="session",
    )


#: The modules of the groups of side features, which register them.
SIDE_GROUPS = (announcement_features, fundamental_features, macro_features, text_features)

declare(_indicators())
declare(_stationary_features())
declare(side_features_table())

LABELS = declare(
    Table(
        "labels",
        "features",
        "buy, sell or hold: which threshold the total return crosses first within the horizon (7 bars by default)",
        (
            *KEY_COLUMNS,
            Column(
                "label",
                pl.Int8(),
                "1 buy, -1 sell, 0 hold: which threshold the total return since this close crosses first",
                made_from=_RETURN,
            ),
            Column(
                "touch_session",
                pl.Date(),
                "the session of that crossing; null on hold",
                made_from=_RETURN,
            ),
            Column(
                "horizon_end",
                pl.Date(),
                "the session of the last bar of the horizon, which counts the ticker's own bars; the label is known "
                "from its close on",
                made_from=_RETURN,
            ),
            Column(
                "forward_return_1",
                pl.Float64(),
                "total return from this close to that of the ticker's next bar",
                unit="fraction",
                made_from=_RETURN,
            ),
            Column(
                "forward_return_horizon",
                pl.Float64(),
                "total return from this close to that of horizon_end",
                unit="fraction",
                made_from=_RETURN,
            ),
        ),
        keys=("ticker", "session"),
        partitions="labelled session",
        followed_by=("publication",),
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
        "the scores on the components of pca_model",
        (
            *KEY_COLUMNS,
            Column("pca_version", pl.String(), "the fit that made the row"),
        ),
        keys=("ticker", "session"),
        numbered=Column("pc_", pl.Float64(), "score on a principal component; together they hold 95 % of the variance"),
        partitions="session",
    )
)


def register_indicator(name: str, indicator: Indicator) -> None:
    """Adds a column to `indicators`, from outside the package; features may read it as `name`, in units of p.

    Register it wherever the package is loaded, before rows are made. Rows that are stored already hold null until
    their sessions are made again. Raises TableError for a name that is taken.
    """
    _require_free(name)
    INDICATORS[name] = indicator
    redeclare(_indicators())


def register_feature(name: str, feature: Feature) -> None:
    """Adds a column to `stationary_features`, and so to the inputs of the models, from outside the package.

    Register it wherever the package is loaded, before rows are made. Make `stationary_features` again for all sessions
    afterwards, then the model years: a model reads the columns that it was trained on, none of which may be null.
    Raises TableError for a name that is taken.
    """
    _require_free(name)
    FEATURES[name] = feature
    redeclare(_stationary_features())


def _require_free(name: str) -> None:
    bar_columns = ("ticker", "session", "total_return", "history", "bar", "enough", "p", *BAR_COLUMNS)
    of_groups = (column for group in GROUPS.values() for column in group.columns)
    if name in {*INDICATORS, *FEATURES, *market_context.FEATURES, *of_groups, *QUANTITIES, *bar_columns}:
        raise TableError(f"a column {name} exists already; expected a name that no indicator, feature or bar has")
