"""Scale-free inputs of the models: none depends on the unit of a price, on a split, on the level of an index.

Most columns come from a ticker's own bars; those of the market, the peers, the ranks and past events compare it with
others or with its own past. Every column has bounds and is cut there, so that one absurd return cannot explode a
window. Windows count the ticker's own bars. O, H, L, C are the day's prices, r the log of 1 + total return, m the
market's r (see `daily`), p the total-return index of `indicators`.

A new column is one record of FEATURES, or `tables.register_feature` from outside the package.
"""

from collections.abc import Iterable, Mapping
from datetime import date
from functools import partial

import polars as pl

from stock_assets.features import events, indicators, peers
from stock_assets.features.daily import with_quantities
from stock_assets.features.formulas import (
    FAR,
    NEAR,
    Feature,
    in_stages,
    mean_of,
    needed_for,
    of_session,
    rank_of,
    volatility,
)
from stock_assets.features.lookback import by_session, histories, last_rows, refuse
from stock_assets.frames import KEYS

#: What is read of a bar, besides its keys and total return.
BAR_COLUMNS = ("open", "high", "low", "close", "volume", "split_ratio", "suspect")

#: A history's first row: its 67th bar, the first with 66 returns.
FIRST_BAR = 67

#: The part of the price below which a standard deviation is rounding, and %b a ratio of two roundings.
_FLAT = 1e-6

_P, _R = pl.col("p"), pl.col("r")
_ESTIMATORS = {
    "close": ("r², close to close", "close_variance"),
    "garman_klass": ("½ ln(H/L)² - (2 ln 2 - 1) ln(C/O)², Garman & Klass 1980", "garman_klass"),
    "parkinson": ("ln(H/L)² / (4 ln 2), Parkinson 1980", "parkinson"),
    "rogers_satchell": ("ln(H/C) ln(H/O) + ln(L/C) ln(L/O), Rogers & Satchell 1991", "rogers_satchell"),
}
_TOTAL = "gap² + ½ Garman-Klass + ½ Parkinson"


def _volatility(text: str, variance: pl.Expr, *, in_pca: bool = False, bars: int = NEAR) -> Feature:
    return Feature(f"½ ln(1e-5 + mean of {text})", -6.0, 1.0, volatility(variance), in_pca=in_pca, bars=bars)


def _position(k: int) -> pl.Expr:
    position = 0.5 + (_P - pl.col(f"ma_{k}")) / (4 * pl.col(f"std_{k}"))
    return pl.when(pl.col(f"std_{k}") > _FLAT * _P).then(position).otherwise(0.5)


def _one_sided(sign: int) -> pl.Expr:
    return (sign * _R).clip(lower_bound=0.0).pow(2).rolling_mean(22).over("history") + 1e-5


def _rank(of: str) -> Feature:
    return Feature(f"Rank of {of} among the session's tickers", -0.5, 0.5, rank_of(of), of="session", in_pca=True)


#: What formulas of FEATURES read that is no column itself.
_PARTS: dict[str, pl.Expr] = {
    "covariance_66": mean_of("rm", 66) - mean_of("r", 66) * mean_of("m", 66),
    "market_variance_66": mean_of("mm", 66) - mean_of("m", 66) ** 2,
    "variance_66": mean_of("close_variance", 66) - mean_of("r", 66) ** 2,
}
_BETA = pl.col("beta_66")
_RESIDUAL = pl.col("variance_66") - 2 * _BETA * pl.col("covariance_66") + _BETA**2 * pl.col("market_variance_66")

# what the classic indicators say, scale-free
_classic = partial(Feature, in_pca=True, bars=NEAR)

#: Every column in the order of the table. Returns are fractions in logs. A formula reads columns of `daily`, of
#: `indicators.with_index` and INDICATORS, or another feature before it is cut.
FEATURES: dict[str, Feature] = {
    **{f"ma_gap_{k}": _classic(f"p / ma_{k} - 1", -1.0, 2.0, _P / pl.col(f"ma_{k}") - 1) for k in (5, 10, 25, 50)},
    **{
        f"std_ratio_{k}": _classic(f"std_{k} / ma_{k}", 0.0, 1.0, pl.col(f"std_{k}") / pl.col(f"ma_{k}"))
        for k in (10, 25, 50)
    },
    **{
        f"bb_position_{k}": _classic(
            f"Bollinger's %b, (p - bb_lower_{k}) / (bb_upper_{k} - bb_lower_{k}); ½ if the quote is frozen",
            -1.5,
            2.5,
            _position(k),
        )
        for k in (25, 50)
    },
    **{f"rsi_share_{k}": _classic(f"rsi_{k} / 100", 0.0, 1.0, pl.col(f"rsi_{k}") / 100) for k in (5, 10, 25, 50)},
    # the other three differences are sums of these
    **{
        f"macd_ratio_{k}": _classic(f"macd_{k} / p", -1.0, 1.0, pl.col(f"macd_{k}") / _P)
        for k in ("5_10", "10_25", "25_50")
    },
    **{f"momentum_ratio_{k}": _classic(f"momentum_{k} / p", -3.0, 1.0, pl.col(f"momentum_{k}") / _P) for k in (25, 50)},
    **{
        f"log_return_{k}": _classic(f"Sum of r over {k} bars", -2.0, 2.0, _R.rolling_sum(k).over("history"))
        for k in (1, 2, 5, 10, 21, 63)
    },
    **{
        f"vol_{name}_{k}": _volatility(f"{text}, over {k} bars", mean_of(variance, k), in_pca=True)
        for name, (text, variance) in _ESTIMATORS.items()
        for k in (5, 22, 66)
    },
    "vol_total_1": _volatility(f"{_TOTAL}, of the day itself", pl.col("total"), in_pca=True),
    "vol_gap_22": _volatility(
        "gap², over 22 bars; gap = r - ln(C/O), the overnight part of the return", mean_of("gap", 22), in_pca=True
    ),
    "vol_of_vol_22": _classic(
        "Standard deviation of vol_total_1 over 22 bars",
        0.0,
        3.0,
        pl.col("vol_total_1").rolling_std(22).over("history"),
    ),
    "max_abs_return_22": _classic("Largest |r| over 22 bars", 0.0, 1.0, _R.abs().rolling_max(22).over("history")),
    "volume_ratio": _classic(
        "ln(volume) minus its median over 60 bars, volumes on one split basis", -4.0, 4.0, pl.col("volume_ratio")
    ),
    "volume_ratio_5": _classic("Mean of volume_ratio, as cut, over 5 bars", -4.0, 4.0, mean_of("volume_ratio", 5)),
    "beta_66": _classic(
        "cov(r, m) / var(m) over 66 bars, var(m) at least 1e-6",
        -3.0,
        5.0,
        pl.col("covariance_66") / pl.col("market_variance_66").clip(lower_bound=1e-6),
    ),
    "vol_idiosyncratic_66": _volatility("(r - beta_66 m)² about its mean, over 66 bars", _RESIDUAL, in_pca=True),
    "rank_return_5": _rank("log_return_5"),
    "rank_return_21": _rank("log_return_21"),
    "rank_vol_22": _rank("vol_garman_klass_22"),
    "rank_volume": _rank("volume_ratio"),
    **{
        f"vol_total_{k}": _volatility(
            f"{_TOTAL}, over {k} bars{' or the 67 and more there are' if k > 66 else ''}",
            mean_of("total", k, min_bars=min(k, FIRST_BAR - 1)),
            bars=FAR if k > 66 else NEAR,
        )
        for k in (5, 22, 250)
    },
    **{
        f"vol_log_{k}": Feature(
            f"Mean of vol_total_1 over {k} bars (HAR in logs, Corsi 2009)",
            -6.0,
            1.0,
            mean_of("vol_total_1", k),
            bars=NEAR,
        )
        for k in (5, 22, 66)
    },
    "semivariance_22": Feature(
        "½ ln of downside over upside variance over 22 bars (Barndorff-Nielsen, Kinnebrock & Shephard 2010)",
        -3.0,
        3.0,
        0.5 * (_one_sided(-1) / _one_sided(1)).log(),
        bars=NEAR,
    ),
    "momentum_250_21": Feature(
        "Sum of r from 250 to 21 bars ago (Jegadeesh & Titman 1993), or from the oldest",
        -3.0,
        3.0,
        _R.rolling_sum(229, min_samples=FIRST_BAR - 22).shift(21).over("history"),
    ),
    **{
        f"market_vol_{k}": Feature(
            f"Mean of vol_total_{k} over the session's tickers",
            -6.0,
            1.0,
            of_session(pl.col(f"vol_total_{k}"), pl.Expr.mean),
            of="session",
        )
        for k in (1, 5, 22)
    },
    "market_dispersion": Feature(
        "Standard deviation of r, cut at ±0.2, over the session's tickers",
        0.0,
        0.2,
        of_session(_R.clip(-0.2, 0.2), pl.Expr.std).fill_null(0.0),
        of="session",
    ),
    **peers.FEATURES,
    **events.FEATURES,
}

#: The names, in the order of the table: a view that follows FEATURES.
STATIONARY = FEATURES.keys()


def _own_columns(rows: pl.DataFrame, own: Mapping[str, Feature], first: date | None) -> pl.DataFrame:
    """`rows` of `with_quantities`, of whole histories, from session `first` on, with the columns of `own`.

    Each is computed on the bars that it looks at, and no column that none of them reads.
    """
    rows = indicators.with_index(rows)
    formulas = indicators.formulas() | _PARTS | {name: feature.formula for name, feature in own.items()}
    asked_rows = last_rows(rows, first, 0)
    parts = [asked_rows.select(*KEYS, "suspect", "r", "bar", "enough")]
    for bars in sorted({feature.bars for feature in own.values()}):
        names = [name for name, feature in own.items() if feature.bars == bars]
        rows_to_read = last_rows(rows, first, bars + indicators.FIRST_BAR)
        columns = in_stages(rows_to_read, needed_for(names, formulas))
        parts.append(last_rows(columns, first, 0).select(*names))
    return pl.concat(parts, how="horizontal")


def pca_inputs() -> list[str]:
    """The features that the next fit of `pca_model` takes, in the order of the table."""
    return [name for name, feature in FEATURES.items() if feature.in_pca]


def stationary_features(
    bars: pl.DataFrame, first: date | None = None, sessions: Iterable[date] | None = None
) -> pl.DataFrame:
    """The inputs of the models for every session from `first` on, from bars of that session and earlier ones.

    `bars` are rows of `daily_bars` of *all* tickers with LOOKBACK_SESSIONS sessions up to `first` (or all
    there are), in any order; `sessions` as in `histories`.

    Returns ticker, session and the STATIONARY columns (f64, all finite, within their bounds), sorted by
    session and ticker; rows only from the 67th bar of a history that is long enough (see `lookback`).

    Raises BadBarsError for bars without keys, closes or returns that make sense.
    """
    rows = daily_rows(bars, sessions)
    return with_session_features(own_features(rows, first), peers.Returns.of(rows))


def daily_rows(bars: pl.DataFrame, sessions: Iterable[date] | None = None) -> pl.DataFrame:
    """`bars` and `sessions` as `stationary_features` takes them, with the quantities that features are computed from
    (`daily.with_quantities`) and the size of each day's burst (`events.burst_sizes`)."""
    rows = histories(bars, BAR_COLUMNS, sessions)
    split = pl.col("split_ratio")
    refuse(rows, ~(split.is_finite() & (split > 0)), "split_ratio", expected="a positive ratio, or null")
    return events.burst_sizes(with_quantities(rows))


def own_features(rows: pl.DataFrame, first: date | None = None, usual: pl.DataFrame | None = None) -> pl.DataFrame:
    """The columns of `stationary_features` that are of a ticker alone, from `daily_rows`, with suspect, r and the past
    bursts; of some tickers alone where `usual` has the medians of all (`events.usual_bursts`)."""
    own = {name: feature for name, feature in FEATURES.items() if feature.of == "ticker"}
    features = by_session(
        rows,
        lambda part: _own_columns(part, own, first),
        [*KEYS, "suspect", "r", *(feature.cut(pl.col(name)) for name, feature in own.items())],
        min_bar=FIRST_BAR,
        first=first,
    )
    return features.with_columns(*events.event_columns(features, events.bursts(rows, usual)))


def with_session_features(features: pl.DataFrame, returns: peers.Returns) -> pl.DataFrame:
    """`own_features` of all tickers of some sessions with the columns that compare tickers, as `stationary_features`
    returns them; `returns` as `peers.peer_columns` takes them."""
    features = features.with_columns(*peers.peer_columns(features, returns))
    of_sessions = {name: feature.formula for name, feature in FEATURES.items() if feature.of == "session"}
    features = in_stages(features, of_sessions)
    return features.select(*KEYS, *(feature.cut(pl.col(name)) for name, feature in FEATURES.items()))
