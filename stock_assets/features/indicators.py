"""The classic indicators of the reference study, on total-return prices.

They are computed on the index p = cumulative product of (1 + total return), then brought to the price basis
of their own day (value * close / p), so that no later split or dividend ever changes a row. RSI and MACD are
the study's own: exponential means of span k instead of Wilder's smoothing, no seeding with a simple mean.

A new one is one record of INDICATORS, or `tables.register_indicator` from outside the package.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import polars as pl

from stock_assets.features.formulas import in_stages
from stock_assets.features.lookback import by_session, histories, last_rows, refuse
from stock_assets.frames import KEYS

#: A history's first row: its 51st bar, the first with a 50-bar momentum.
FIRST_BAR = 51

#: Where gains and losses together average less than this part of the price, the quote is frozen. Without the
#: limit RSI would be the ratio of two remnants of moves long ago, and depend on how far back history reaches.
FROZEN = 1e-9


@dataclass(frozen=True, eq=False)
class Indicator:
    """One column: what it is, and its formula over the bars of one history.

    `formula` reads the total-return index `p` and other indicators, and looks back `.over("history")`: at most
    FIRST_BAR bars, or with weights that fade as those of an exponential mean of span 50 do. Where it is `in_price`, its
    value is in units of p and is brought to the price basis of the day; else it has no unit.
    """

    text: str
    formula: pl.Expr
    in_price: bool = True


_MEANS, _STDS, _BANDS, _SPANS = (5, 10, 25, 50), (10, 25, 50), (25, 50), (5, 10, 25, 50)
_MACDS = ((5, 10), (5, 25), (5, 50), (10, 25), (10, 50), (25, 50))

_P = pl.col("p")
_CHANGE = _P.diff().over("history").fill_null(0.0)

#: What formulas of INDICATORS read that is no indicator itself.
_PARTS: dict[str, pl.Expr] = {
    "gain": _CHANGE.clip(lower_bound=0.0),
    "loss": (-_CHANGE).clip(lower_bound=0.0),
    **{f"up_{k}": pl.col("gain").ewm_mean(span=k, adjust=True).over("history") for k in _SPANS},
    **{f"down_{k}": pl.col("loss").ewm_mean(span=k, adjust=True).over("history") for k in _SPANS},
    **{f"ewm_{k}": _P.ewm_mean(span=k, adjust=False).over("history") for k in _SPANS},
}


def _rsi(span: int) -> pl.Expr:
    up, moves = pl.col(f"up_{span}"), pl.col(f"up_{span}") + pl.col(f"down_{span}")
    return pl.when(moves > FROZEN * _P).then(100 * up / moves).otherwise(50.0)


#: Every indicator by name, in the order of the table.
INDICATORS: dict[str, Indicator] = {
    **{f"ma_{k}": Indicator(f"Mean of the last {k} closes", _P.rolling_mean(k).over("history")) for k in _MEANS},
    **{
        f"std_{k}": Indicator(
            f"Sample standard deviation (ddof 1) of the last {k} closes", _P.rolling_std(k, ddof=1).over("history")
        )
        for k in _STDS
    },
    **{
        f"bb_{side}_{k}": Indicator(
            f"{side.title()} Bollinger band: ma_{k} {sign} 2 std_{k}",
            pl.col(f"ma_{k}") + (2 if sign == "+" else -2) * pl.col(f"std_{k}"),
        )
        for side, sign in (("upper", "+"), ("lower", "-"))
        for k in _BANDS
    },
    **{
        f"rsi_{k}": Indicator(
            f"Relative strength 0 to 100: 100 up / (up + down), exponential means of span {k} of gains and losses; 50 "
            "where the quote is frozen",
            _rsi(k),
            in_price=False,
        )
        for k in _SPANS
    },
    **{
        f"macd_{a}_{b}": Indicator(
            f"Exponential mean of span {a} minus that of span {b}", pl.col(f"ewm_{a}") - pl.col(f"ewm_{b}")
        )
        for a, b in _MACDS
    },
    **{
        f"momentum_{k}": Indicator(f"Close minus the close {k} bars ago", (_P - _P.shift(k).over("history")))
        for k in _MEANS
    },
}


def classic_indicators(
    bars: pl.DataFrame, first: date | None = None, sessions: Iterable[date] | None = None
) -> pl.DataFrame:
    """The indicators of every session from `first` on, using that session's close and earlier bars only.

    `bars` are rows of `daily_bars` with LOOKBACK_SESSIONS sessions up to `first` (or all there are), in any
    order; `sessions` as in `histories`.

    Returns ticker, session and the INDICATORS (f64, all finite), sorted by session and ticker; rows only
    from the 51st bar of a history that is long enough (see `lookback`). Prices are in the currency of the
    listing, on the price basis of their session.

    Raises BadBarsError for bars without keys, closes or returns that make sense.
    """
    to_price = pl.col("close") / _P
    columns = [
        pl.col(name) * to_price if indicator.in_price else pl.col(name) for name, indicator in INDICATORS.items()
    ]
    return by_session(
        histories(bars, ["close"], sessions),
        lambda part: in_stages(last_rows(with_index(part), first, FIRST_BAR), formulas()),
        [*KEYS, *columns],
        min_bar=FIRST_BAR,
        first=first,
    )


def formulas() -> dict[str, pl.Expr]:
    """The formula of each of INDICATORS, in units of p where it is in a price, over rows of `with_index`.

    Windows reach over the first bars of a history, so a row means something from FIRST_BAR on only.
    """
    return {name: indicator.formula for name, indicator in INDICATORS.items()}


def with_index(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of `histories` with `close`, plus the index `p` and the exponential means that `formulas` read, which look
    at every bar of a history."""
    usable = pl.col("close").is_finite() & (pl.col("close") > 0)
    refuse(rows, usable.not_().fill_null(True), "close", expected="a positive price")
    rows = rows.with_columns(p=(1 + pl.col("total_return").fill_null(0.0)).cum_prod().over("history"))
    return in_stages(rows, _PARTS)
