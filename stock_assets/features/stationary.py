"""Scale-free inputs of the models: none depends on the unit of a price, on a split, on the level of an index.

Most columns say what a ticker's own bars say; those of the market, the peers, the ranks and past events compare it
with others or with its own past. Every column has bounds and is cut there, so that one absurd return cannot explode
a window: daily log returns and ranges are cut at ±1 before any mean, the rest at the bounds of `FEATURES`. Windows
count the ticker's own bars. Volatilities are ½ ln(mean daily variance + 1e-5), daily and not annualised; the 1e-5
keeps a frozen quote finite (about 0.3 % a day). O, H, L, C are the day's prices, r the log of 1 + total return, m the
market's r, p the total-return index of `indicators`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from math import log

import polars as pl

from stock_assets.features import events, peers
from stock_assets.features.indicators import with_indicators
from stock_assets.features.lookback import by_session, histories, refuse

#: What is read of a bar, besides its keys and total return.
BAR_COLUMNS = ("open", "high", "low", "close", "volume", "split_ratio", "suspect")

#: A history's first row: its 67th bar, the first with 66 returns.
FIRST_BAR = 67


@dataclass(frozen=True)
class Feature:
    """One column: what it is, with the source of its formula, and the bounds it is cut at."""

    description: str
    low: float
    high: float


def _volatility(description: str) -> Feature:
    return Feature(f"½ ln(1e-5 + mean of {description})", -6.0, 1.0)


_ESTIMATORS = {
    "close": "r², close to close",
    "garman_klass": "½ ln(H/L)² - (2 ln 2 - 1) ln(C/O)², Garman & Klass 1980",
    "parkinson": "ln(H/L)² / (4 ln 2), Parkinson 1980",
    "rogers_satchell": "ln(H/C) ln(H/O) + ln(L/C) ln(L/O), Rogers & Satchell 1991",
}
_WINDOWS = (5, 22, 66)
_RETURNS = (1, 2, 5, 10, 21, 63)
_TOTAL = "gap² + ½ Garman-Klass + ½ Parkinson"
_TOTAL_WINDOWS = (5, 22, 250)
_MARKET = (1, 5, 22)
# the other three differences are sums of these
_MACDS = ("5_10", "10_25", "25_50")

#: Every column in order. Returns are fractions in logs.
FEATURES: dict[str, Feature] = (
    {f"ma_gap_{k}": Feature(f"p / ma_{k} - 1", -1.0, 2.0) for k in (5, 10, 25, 50)}
    | {f"std_ratio_{k}": Feature(f"std_{k} / ma_{k}", 0.0, 1.0) for k in (10, 25, 50)}
    | {
        f"bb_position_{k}": Feature(
            f"Bollinger's %b, (p - bb_lower_{k}) / (bb_upper_{k} - bb_lower_{k}); ½ if the quote is frozen",
            -1.5,
            2.5,
        )
        for k in (25, 50)
    }
    | {f"rsi_share_{k}": Feature(f"rsi_{k} / 100", 0.0, 1.0) for k in (5, 10, 25, 50)}
    | {f"macd_ratio_{k}": Feature(f"macd_{k} / p", -1.0, 1.0) for k in _MACDS}
    | {f"momentum_ratio_{k}": Feature(f"momentum_{k} / p", -3.0, 1.0) for k in (25, 50)}
    | {f"log_return_{k}": Feature(f"Sum of r over {k} bars", -2.0, 2.0) for k in _RETURNS}
    | {f"vol_{name}_{k}": _volatility(f"{text}, over {k} bars") for name, text in _ESTIMATORS.items() for k in _WINDOWS}
    | {
        "vol_total_1": _volatility("gap² + ½ Garman-Klass + ½ Parkinson, of the day itself"),
        "vol_gap_22": _volatility("gap², over 22 bars; gap = r - ln(C/O), the overnight part of the return"),
        "vol_of_vol_22": Feature("Standard deviation of vol_total_1 over 22 bars", 0.0, 3.0),
        "max_abs_return_22": Feature("Largest |r| over 22 bars", 0.0, 1.0),
        "volume_ratio": Feature("ln(volume) minus its median over 60 bars, volumes on one split basis", -4.0, 4.0),
        "volume_ratio_5": Feature("Mean of volume_ratio, as cut, over 5 bars", -4.0, 4.0),
        "beta_66": Feature("cov(r, m) / var(m) over 66 bars, var(m) at least 1e-6", -3.0, 5.0),
        "vol_idiosyncratic_66": _volatility("(r - beta_66 m)² about its mean, over 66 bars"),
        "rank_return_5": Feature("Rank of log_return_5 among the session's tickers", -0.5, 0.5),
        "rank_return_21": Feature("Rank of log_return_21 among the session's tickers", -0.5, 0.5),
        "rank_vol_22": Feature("Rank of vol_garman_klass_22 among the session's tickers", -0.5, 0.5),
        "rank_volume": Feature("Rank of volume_ratio among the session's tickers", -0.5, 0.5),
    }
)

#: The inputs of `pca_model`: what the classic indicators say.
CLASSIC: tuple[str, ...] = tuple(FEATURES)

FEATURES |= (
    {
        f"vol_total_{k}": _volatility(f"{_TOTAL}, over {k} bars{' or the 67 and more there are' if k > 66 else ''}")
        for k in _TOTAL_WINDOWS
    }
    | {
        f"vol_log_{k}": Feature(f"Mean of vol_total_1 over {k} bars (HAR in logs, Corsi 2009)", -6.0, 1.0)
        for k in (5, 22, 66)
    }
    | {
        "semivariance_22": Feature(
            "½ ln of downside over upside variance over 22 bars (Barndorff-Nielsen, Kinnebrock & Shephard 2010)",
            -3.0,
            3.0,
        ),
        "momentum_250_21": Feature(
            "Sum of r from 250 to 21 bars ago (Jegadeesh & Titman 1993), or from the oldest", -3.0, 3.0
        ),
    }
    | {f"market_vol_{k}": Feature(f"Mean of vol_total_{k} over the session's tickers", -6.0, 1.0) for k in _MARKET}
    | {"market_dispersion": Feature("Standard deviation of r, cut at ±0.2, over the session's tickers", 0.0, 0.2)}
    | {
        name: Feature(text, -4.0, 4.0) if "vol" in name else Feature(text, -0.5, 0.5)
        for name, text in peers.NAMES.items()
    }
    | {name: Feature(text, 0.0, 6.0) for name, text in events.NAMES.items()}
)

#: The names, in the order of the table.
STATIONARY: tuple[str, ...] = tuple(FEATURES)

#: What each column is.
DESCRIPTIONS: dict[str, str] = {
    name: f"{feature.description}; cut at {feature.low:g} and {feature.high:g}" for name, feature in FEATURES.items()
}

_RANKED = {
    "rank_return_5": "log_return_5",
    "rank_return_21": "log_return_21",
    "rank_vol_22": "vol_garman_klass_22",
    "rank_volume": "volume_ratio",
}

#: What a ticker's own bars say.
_OWN = tuple(
    name for name in FEATURES if name not in {*_RANKED, *peers.NAMES, *events.NAMES} and not name.startswith("market_")
)

#: Calendar days that the longest window, 250 bars and 22 more within it, can reach back over MAX_MISSED missed
#: sessions; only the exponential means look further.
_REACH = timedelta(days=500)

#: ln(volume) of a session without trades: below every other, on any split basis.
_NO_VOLUME = -100.0

#: The part of the price below which a standard deviation is rounding, and %b a ratio of two roundings.
_FLAT = 1e-6


def stationary_features(
    bars: pl.DataFrame, first: date | None = None, sessions: Iterable[date] | None = None
) -> pl.DataFrame:
    """The inputs of the models for every session from `first` on, from bars of that session and earlier ones.

    `bars` are rows of `daily_bars` of *all* tickers with LOOKBACK_SESSIONS sessions up to `first` (or all
    there are), in any order; `sessions` as in `histories`. The market is the equal-weighted mean of the
    session's returns, each cut at ±0.2, without suspect rows. Ranks are (rank - ½) / count - ½ among the rows
    of the session that are not suspect; suspect rows have 0, the middle.

    Returns ticker, session and the STATIONARY columns (f64, all finite, within their bounds), sorted by
    session and ticker; rows only from the 67th bar of a history that is long enough (see `lookback`).

    Raises BadBarsError for bars without keys, closes or returns that make sense.
    """
    rows = _with_market(histories(bars, BAR_COLUMNS, sessions))
    split = pl.col("split_ratio")
    refuse(rows, ~(split.is_finite() & (split > 0)), "split_ratio", "a positive ratio, or null")
    rows = _days(rows)
    recent = pl.col("session") >= (first - _REACH if first else date.min)
    made = by_session(
        rows,
        lambda part: _windows(with_indicators(part).filter(recent)),
        ["ticker", "session", "suspect", "r", *(_cut(name) for name in _OWN)],
        FIRST_BAR,
        first,
    )
    clean = pl.col("suspect").is_null()
    made = made.with_columns(
        *(_of_session(pl.col(f"vol_total_{k}"), pl.Expr.mean, clean).alias(f"market_vol_{k}") for k in _MARKET),
        _of_session(pl.col("r").clip(-0.2, 0.2), pl.Expr.std, clean).fill_null(0.0).alias("market_dispersion"),
        *(_rank(column, name) for name, column in _RANKED.items()),
        *peers.peer_columns(made, rows.select("ticker", "session", "suspect", "r")),
        *events.event_columns(made, events.bursts(rows)),
    )
    return made.select("ticker", "session", *(_cut(name) for name in STATIONARY))


def _cut(name: str) -> pl.Expr:
    return pl.col(name).clip(FEATURES[name].low, FEATURES[name].high)


def _of_session(column: pl.Expr, statistic: Callable[[pl.Expr], pl.Expr], clean: pl.Expr) -> pl.Expr:
    """The statistic over the session's rows that are not suspect, over all of them where none is left."""
    return pl.coalesce(statistic(pl.when(clean).then(column)), statistic(column)).over("session")


def _with_market(rows: pl.DataFrame) -> pl.DataFrame:
    """Adds the log return r and the market's, m: the mean of the session, each return cut at ±0.2."""
    r = (1 + pl.col("total_return")).log()
    market = _of_session(r.clip(-0.2, 0.2), pl.Expr.mean, pl.col("suspect").is_null())
    return rows.with_columns(r.clip(-1.0, 1.0).alias("r"), market.alias("m"))


def _days(rows: pl.DataFrame) -> pl.DataFrame:
    """What one bar alone says: the daily variances and ln volume."""
    # the prices of a suspect bar may be in no order; a range that holds all four keeps the variances positive
    close = pl.col("close")
    priced = [
        pl.when(pl.col(c).is_finite() & (pl.col(c) > 0)).then(pl.col(c)).otherwise(close)
        for c in ("open", "high", "low")
    ]
    rows = rows.with_columns(
        priced[0].alias("open"),
        pl.max_horizontal(*priced, close).alias("high"),
        pl.min_horizontal(*priced, close).alias("low"),
    )

    def ratio(above: str, below: str) -> pl.Expr:
        return (pl.col(above) / pl.col(below)).log().clip(-1.0, 1.0)

    gap = (pl.col("r") - (pl.col("close") / pl.col("open")).log()).clip(-1.0, 1.0)
    volume = pl.col("volume").fill_nan(0.0).fill_null(0.0)
    splits = pl.col("split_ratio").fill_null(1.0).log().cum_sum().over("history")
    rows = rows.with_columns(
        (gap**2).alias("gap"),
        (ratio("high", "low") ** 2 / (4 * log(2))).alias("parkinson"),
        (0.5 * ratio("high", "low") ** 2 - (2 * log(2) - 1) * ratio("close", "open") ** 2).alias("garman_klass"),
        (ratio("high", "close") * ratio("high", "open") + ratio("low", "close") * ratio("low", "open")).alias(
            "rogers_satchell"
        ),
        pl.when(volume > 0).then(volume.log() - splits).otherwise(_NO_VOLUME).alias("ln_volume"),
    )
    total = pl.col("gap") + 0.5 * pl.col("garman_klass") + 0.5 * pl.col("parkinson")
    volume_ratio = pl.col("ln_volume") - pl.col("ln_volume").rolling_median(60).over("history")
    return rows.with_columns(
        total.alias("total"),
        volume_ratio.clip(-4.0, 4.0).alias("volume_ratio"),
        (pl.col("r") ** 2).alias("close_variance"),
        (pl.col("r") * pl.col("m")).alias("rm"),
        (pl.col("m") ** 2).alias("mm"),
        _half_log(total).alias("vol_total_1"),
    )


def _windows(rows: pl.DataFrame) -> pl.DataFrame:
    """The columns of FEATURES before they are cut, without the ranks; plus what `_days` has."""
    p = pl.col("p")

    def mean(column: str, window: int) -> pl.Expr:
        return pl.col(column).rolling_mean(window).over("history")

    daily = {name: "close_variance" if name == "close" else name for name in _ESTIMATORS}

    def upside(sign: int) -> pl.Expr:
        return (sign * pl.col("r")).clip(lower_bound=0.0).pow(2).rolling_mean(22).over("history") + 1e-5

    older = pl.col("r").rolling_sum(229, min_samples=FIRST_BAR - 22).shift(21).over("history")
    rows = rows.with_columns(
        *(
            _half_log(pl.col("total").rolling_mean(k, min_samples=min(k, FIRST_BAR - 1)).over("history")).alias(
                f"vol_total_{k}"
            )
            for k in _TOTAL_WINDOWS
        ),
        *(mean("vol_total_1", k).alias(f"vol_log_{k}") for k in (5, 22, 66)),
        (0.5 * (upside(-1) / upside(1)).log()).alias("semivariance_22"),
        older.alias("momentum_250_21"),
        *((p / pl.col(f"ma_{k}") - 1).alias(f"ma_gap_{k}") for k in (5, 10, 25, 50)),
        *((pl.col(f"std_{k}") / pl.col(f"ma_{k}")).alias(f"std_ratio_{k}") for k in (10, 25, 50)),
        *(
            pl.when(pl.col(f"std_{k}") > _FLAT * p)
            .then(0.5 + (p - pl.col(f"ma_{k}")) / (4 * pl.col(f"std_{k}")))
            .otherwise(0.5)
            .alias(f"bb_position_{k}")
            for k in (25, 50)
        ),
        *((pl.col(f"rsi_{k}") / 100).alias(f"rsi_share_{k}") for k in (5, 10, 25, 50)),
        *((pl.col(f"macd_{k}") / p).alias(f"macd_ratio_{k}") for k in _MACDS),
        *((pl.col(f"momentum_{k}") / p).alias(f"momentum_ratio_{k}") for k in (25, 50)),
        *(pl.col("r").rolling_sum(k).over("history").alias(f"log_return_{k}") for k in _RETURNS),
        *(_half_log(mean(column, k)).alias(f"vol_{name}_{k}") for name, column in daily.items() for k in _WINDOWS),
        _half_log(mean("gap", 22)).alias("vol_gap_22"),
        pl.col("vol_total_1").rolling_std(22).over("history").alias("vol_of_vol_22"),
        pl.col("r").abs().rolling_max(22).over("history").alias("max_abs_return_22"),
        (mean("rm", 66) - mean("r", 66) * mean("m", 66)).alias("covariance"),
        (mean("mm", 66) - mean("m", 66) ** 2).alias("market_variance"),
        (mean("close_variance", 66) - mean("r", 66) ** 2).alias("variance"),
    )
    beta = pl.col("covariance") / pl.col("market_variance").clip(lower_bound=1e-6)
    residual = (
        pl.col("variance")
        - 2 * pl.col("beta_66") * pl.col("covariance")
        + pl.col("beta_66") ** 2 * pl.col("market_variance")
    )
    return rows.with_columns(mean("volume_ratio", 5).alias("volume_ratio_5"), beta.alias("beta_66")).with_columns(
        _half_log(residual).alias("vol_idiosyncratic_66")
    )


def _half_log(variance: pl.Expr) -> pl.Expr:
    return 0.5 * (variance.clip(lower_bound=0.0) + 1e-5).log()


def _rank(column: str, name: str) -> pl.Expr:
    # rounded, so that equal values stay equal whatever the last bit of their sums
    clean = pl.when(pl.col("suspect").is_null()).then(pl.col(column).round(9))
    rank = (clean.rank("average") - 0.5) / clean.count() - 0.5
    return rank.over("session").fill_null(0.0).alias(name)
