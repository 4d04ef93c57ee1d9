"""What follows from one bar alone: returns, daily variances and the volume, which windows are computed from.

O, H, L, C are the day's prices, r the log of 1 + total return, m the market's r. Log returns and ranges are cut at ±1
before any mean, so that one absurd return cannot explode a window.
"""

from math import log

import polars as pl

from stock_assets.features.formulas import of_session, volatility

#: The columns of `with_quantities`, which formulas of features may read besides the bars' own.
QUANTITIES: dict[str, str] = {
    "r": "ln(1 + total return), cut at ±1",
    "m": "the market's r: the mean over the session's tickers that are not suspect, each cut at ±0.2",
    "gap": "(r - ln(C/O))², of the overnight part of the return",
    "garman_klass": "½ ln(H/L)² - (2 ln 2 - 1) ln(C/O)², Garman & Klass 1980",
    "parkinson": "ln(H/L)² / (4 ln 2), Parkinson 1980",
    "rogers_satchell": "ln(H/C) ln(H/O) + ln(L/C) ln(L/O), Rogers & Satchell 1991",
    "total": "gap² + ½ Garman-Klass + ½ Parkinson",
    "close_variance": "r²",
    "rm": "r m",
    "mm": "m²",
    "vol_total_1": "½ ln(total + 1e-5)",
    "ln_volume": "ln(volume) on one split basis; NO_VOLUME without trades",
    "volume_ratio": "ln_volume minus its median over 60 bars, cut at ±4",
}

_OF_MARKET = {"rm": pl.col("r") * pl.col("m"), "mm": pl.col("m") ** 2}
#: ln(volume) of a session without trades: below every other, on any split basis.
NO_VOLUME = -100.0


def with_quantities(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of `histories` with open, high, low, close, volume, split_ratio and suspect, plus the QUANTITIES (f64).

    All tickers of a session are needed, since m is of them all; of some tickers `with_market` corrects what is made of
    m. r is null where a history begins.
    """
    rows = with_variances(rows).with_columns(m=of_session(pl.col("r").clip(-0.2, 0.2), pl.Expr.mean))
    volume = pl.col("volume").fill_nan(0.0).fill_null(0.0)
    splits = pl.col("split_ratio").fill_null(1.0).log().cum_sum().over("history")
    rows = rows.with_columns(ln_volume=pl.when(volume > 0).then(volume.log() - splits).otherwise(NO_VOLUME))
    volume_ratio = pl.col("ln_volume") - pl.col("ln_volume").rolling_median(60).over("history")
    return rows.with_columns(
        volume_ratio=volume_ratio.clip(-4.0, 4.0),
        close_variance=pl.col("r") ** 2,
        **_OF_MARKET,
        vol_total_1=volatility(pl.col("total")),
    )


def with_market(rows: pl.DataFrame, market: pl.DataFrame) -> pl.DataFrame:
    """`rows` of `with_quantities` of some tickers alone, with the m of all tickers: `market` has session, m."""
    rows_with_market = rows.drop("m").join(market, on="session", how="left", maintain_order="left")
    return rows_with_market.with_columns(**_OF_MARKET)


def with_variances(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of `histories` with open, high, low, close, plus r, the variances of the QUANTITIES and `total`."""
    rows = rows.with_columns(r=(1 + pl.col("total_return")).log().clip(-1.0, 1.0))
    rows = _variances(_ordered_prices(rows))
    return rows.with_columns(total=pl.col("gap") + 0.5 * pl.col("garman_klass") + 0.5 * pl.col("parkinson"))


def market_returns(rows: pl.DataFrame) -> pl.DataFrame:
    """session, m of all `rows` (session, r, suspect) of some sessions, by the definition of QUANTITIES."""
    return rows.select("session", m=of_session(pl.col("r").clip(-0.2, 0.2), pl.Expr.mean)).unique("session")


def _ordered_prices(rows: pl.DataFrame) -> pl.DataFrame:
    """The prices of a suspect bar may be in no order; a range that holds all four keeps the variances positive."""
    close = pl.col("close")
    usable = [
        pl.when(pl.col(c).is_finite() & (pl.col(c) > 0)).then(pl.col(c)).otherwise(close)
        for c in ("open", "high", "low")
    ]
    return rows.with_columns(
        open=usable[0], high=pl.max_horizontal(*usable, close), low=pl.min_horizontal(*usable, close)
    )


def _variances(rows: pl.DataFrame) -> pl.DataFrame:
    def ratio(above: str, below: str) -> pl.Expr:
        return (pl.col(above) / pl.col(below)).log().clip(-1.0, 1.0)

    gap = (pl.col("r") - (pl.col("close") / pl.col("open")).log()).clip(-1.0, 1.0)
    return rows.with_columns(
        gap=gap**2,
        parkinson=ratio("high", "low") ** 2 / (4 * log(2)),
        garman_klass=0.5 * ratio("high", "low") ** 2 - (2 * log(2) - 1) * ratio("close", "open") ** 2,
        rogers_satchell=ratio("high", "close") * ratio("high", "open") + ratio("low", "close") * ratio("low", "open"),
    )
