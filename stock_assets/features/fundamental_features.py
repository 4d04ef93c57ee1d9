"""Ratios of companies' reports, as known at the close: the dozen that the literature of returns uses most.

A report counts from the first session whose close comes after its filing could be read, with the figures that stood
then. A price is as traded, so that it goes with the shares outstanding of its own day: the last count, times the splits
since. Ratios are null where a figure is missing, and where the last report is older than `OLDEST` days.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from statistics import fmean, stdev
from typing import NamedTuple

import polars as pl

from stock_assets.features.side_features import SideColumn, SideFrames, SideGroup, register_side_group
from stock_assets.side_inputs.concepts import Figures, days, is_between, quarters, trailing_year, year_before

#: Days since the end of the last period, or since the last count of the shares, after which nothing is said.
OLDEST = 400
#: Quarters before the last one whose surprises say how large a surprise is, and how many of them there must be.
SURPRISES, FEWEST_SURPRISES = 8, 4
#: Days between two counts of the shares of one year.
_SHARE_YEAR = (320, 410)
#: Sessions of OLDEST days and of a year before, in which splits may lie.
LOOKBACK = 600

COLUMNS: Mapping[str, SideColumn] = {
    "earnings_yield": SideColumn("net income of a year / market value (Basu 1977)", -1.0, 1.0),
    "book_to_price": SideColumn("shareholders' equity / market value (Fama and French 1992)", -2.0, 5.0),
    "cash_flow_to_price": SideColumn(
        "cash from operations of a year / market value (Lakonishok, Shleifer and Vishny 1994)", -1.0, 1.0
    ),
    "accruals": SideColumn(
        "(net income - cash from operations) of a year / mean assets (Sloan 1996, by the cash flow statement as Hribar "
        "and Collins 2002)",
        -1.0,
        1.0,
    ),
    "asset_growth": SideColumn("assets / those of a year before - 1 (Cooper, Gulen and Schill 2008)", -1.0, 3.0),
    "gross_profitability": SideColumn("gross profit of a year / assets (Novy-Marx 2013)", -1.0, 2.0),
    "leverage": SideColumn("liabilities / assets (Bhandari 1988 with book values)", 0.0, 2.0),
    "net_share_issuance": SideColumn(
        "ln of the shares outstanding over those of a year before, without splits (Pontiff and Woodgate 2008)",
        -0.5,
        1.0,
    ),
    "sales_growth": SideColumn(
        "sales of a year / those of the year before - 1 (Lakonishok, Shleifer and Vishny 1994)", -1.0, 3.0
    ),
    "return_on_equity": SideColumn("net income of a year / mean equity, where that is above 0", -2.0, 2.0),
    "earnings_surprise": SideColumn(
        "net income of the quarter - that of the same quarter a year before, less the mean and over the deviation of "
        "the 8 such differences before (Foster 1977)",
        -10.0,
        10.0,
    ),
    "figures_age": SideColumn("days since the end of the last reported period / 365", 0.0, 1.1),
}


class Count(NamedTuple):
    """A number of shares and the day whose share it counts: later splits are not in it."""

    day: date
    shares: float


#: What a report says until the next one, of which `_ratios` makes the columns; all nullable.
_STATE = pl.Schema(
    {
        "ticker": pl.String,
        "since": pl.Date,
        "period_end": pl.Date,
        **dict.fromkeys(("income", "cash_flow", "equity"), pl.Float64),
        **dict.fromkeys(
            (
                "accruals",
                "asset_growth",
                "gross_profitability",
                "leverage",
                "sales_growth",
                "return_on_equity",
                "earnings_surprise",
            ),
            pl.Float64,
        ),
        "counted_on": pl.Date,
        "shares": pl.Float64,
        "counted_before": pl.Date,
        "shares_before": pl.Float64,
    }
)


def fundamental_features(frames: SideFrames) -> pl.DataFrame:
    """ticker, session and `COLUMNS` (f64, null where unknown) of every bar of `frames.sessions`."""
    bars = frames.bars.select("ticker", "session", "close", "split_ratio").sort("ticker", "session")
    bars = bars.with_columns(splits=pl.col("split_ratio").fill_null(1.0).cum_prod().over("ticker"))
    rows = bars.filter(pl.col("session").is_in(list(frames.sessions))).sort("session", "ticker")
    states = reported_states(frames.rows["fundamentals"], frames.sessions)
    rows = rows.join_asof(
        states.sort("since"), left_on="session", right_on="since", by="ticker", check_sortedness=False
    )
    for day in ("counted_on", "counted_before"):
        rows = rows.sort(day).join_asof(
            bars.select("ticker", on="session", **{f"splits_{day}": "splits"}).sort("on"),
            left_on=day,
            right_on="on",
            by="ticker",
            check_sortedness=False,
        )
    return _ratios(rows).sort("ticker", "session")


def _ratios(rows: pl.DataFrame) -> pl.DataFrame:
    """The columns of `rows`: bars with what was reported last, and the product of the splits up to either count."""
    age = (pl.col("session") - pl.col("period_end")).dt.total_days()
    recent = age.is_between(0, OLDEST)
    days_since_count = (pl.col("session") - pl.col("counted_on")).dt.total_days()
    now = pl.col("shares") * pl.col("splits") / pl.col("splits_counted_on").fill_null(1.0)
    before = pl.col("shares_before") * pl.col("splits") / pl.col("splits_counted_before").fill_null(1.0)
    value = pl.when(days_since_count.is_between(0, OLDEST)).then(pl.col("close") * now)
    formulas = {
        **{name: pl.col(name) for name in COLUMNS if name in _STATE},
        "earnings_yield": pl.col("income") / value,
        "book_to_price": pl.col("equity") / value,
        "cash_flow_to_price": pl.col("cash_flow") / value,
        "net_share_issuance": pl.when(days_since_count.is_between(0, OLDEST)).then((now / before).log()),
        "figures_age": age / 365,
    }
    return rows.select(
        "ticker",
        "session",
        *(
            pl.when(recent & formulas[name].is_finite())
            .then(formulas[name].clip(column.low, column.high))
            .cast(pl.Float64)
            .alias(name)
            for name, column in COLUMNS.items()
        ),
    )


def reported_states(rows: pl.DataFrame, sessions: Sequence[date]) -> pl.DataFrame:
    """What stood from which session on (`_STATE`), of `rows` of the table fundamentals: every state that counts on one
    of `sessions`, each made from the rows known by then."""
    first, last = min(sessions), max(sessions)
    columns = ("subject", "concept", "period_start", "period_end", "value", "session")
    known_rows = rows.filter(pl.col("session") <= last, pl.col("value").is_finite())
    rows_in_order = known_rows.sort("subject", "session", "known_at", "fetched_at", "filing")
    states = [
        state
        for of_ticker in rows_in_order.select(columns).partition_by("subject", maintain_order=True)
        for state in _states(of_ticker, first)
    ]
    return pl.DataFrame(states, schema=_STATE, orient="row")


def _states(rows: pl.DataFrame, first: date) -> Iterator[dict[str, object]]:
    """The states of one ticker that begin after `first`, and the one that stands then."""
    figures: dict[str, dict[tuple[date | None, date], float]] = {}
    counts: dict[str, dict[date, float]] = {"shares": {}, "reported_shares": {}}
    begins = sorted(set(rows["session"]))
    standing = max((session for session in begins if session <= first), default=first)
    session: date | None = None
    for ticker, concept, start, end, value, since in rows.iter_rows():
        if session is not None and since != session and session >= standing:
            yield {"ticker": ticker, "since": session, **_state(figures, counts)}
        session = since
        if concept in counts:
            # a report states its own shares in terms of the share of the day on which it is read
            counts[concept][end if concept == "shares" else since] = value
        else:
            figures.setdefault(concept, {})[start, end] = value
    if session is not None:
        yield {"ticker": rows["subject"][0], "since": session, **_state(figures, counts)}


def _state(
    figures: Mapping[str, Mapping[tuple[date | None, date], float]], counts: Mapping[str, Mapping[date, float]]
) -> dict[str, object]:
    """The columns of `_STATE` that follow from all figures known by now."""
    income, sales, cash = (figures.get(name, {}) for name in ("net_income", "revenue", "operating_cash_flow"))
    assets, equity, liabilities = (_of_days(figures.get(name, {})) for name in ("assets", "equity", "liabilities"))
    end = max((*(last for _, last in income), *assets), default=None)
    if end is None:
        return {}
    before = year_before([*assets], end)
    flows = {
        "income": trailing_year(income, end),
        "cash_flow": trailing_year(cash, end),
        "sales": trailing_year(sales, end),
        "sales_before": _year_earlier(sales, end),
        "gross_profit": _gross_profit(figures, end),
    }
    mean_assets = _mean(assets.get(end), assets.get(before) if before else None)
    before_equity = year_before([*equity], end)
    mean_equity = _mean(equity.get(end), equity.get(before_equity) if before_equity else None)
    liabilities_total = liabilities.get(end, _difference(assets.get(end), equity.get(end)))
    return {
        "period_end": end,
        "income": flows["income"],
        "cash_flow": flows["cash_flow"],
        "equity": equity.get(end),
        "accruals": _ratio(_difference(flows["income"], flows["cash_flow"]), mean_assets),
        "asset_growth": _growth(assets.get(end), assets.get(before) if before else None),
        "gross_profitability": _ratio(flows["gross_profit"], assets.get(end)),
        "leverage": _ratio(liabilities_total, assets.get(end)),
        "sales_growth": _growth(flows["sales"], flows["sales_before"]),
        "return_on_equity": _ratio(flows["income"], mean_equity),
        "earnings_surprise": surprise(income),
        **_counts(counts),
    }


def surprise(income: Figures) -> float | None:
    """How far the net income of the last quarter lies above that of the same quarter a year before, less the mean of
    the `SURPRISES` such differences before it, in their standard deviations (Foster 1977: a seasonal random walk with
    a drift). None with fewer than `FEWEST_SURPRISES` of them."""
    rows = quarters(income)
    by_end = {quarter.end: quarter for quarter in rows}
    differences: list[float] = []
    for quarter in reversed(rows):
        before = year_before([*by_end], quarter.end)
        if before is None or abs(days(*by_end[before][:2]) - days(*quarter[:2])) > 15:
            if not differences:
                return None
            continue
        differences.append(quarter.value - by_end[before].value)
    earlier = differences[1 : 1 + SURPRISES]
    if len(earlier) < FEWEST_SURPRISES or not (deviation := stdev(earlier)):
        return None
    return (differences[0] - fmean(earlier)) / deviation


def _gross_profit(figures: Mapping[str, Figures], end: date) -> float | None:
    stated_profit = trailing_year(figures.get("gross_profit", {}), end)
    sales, cost = (trailing_year(figures.get(name, {}), end) for name in ("revenue", "cost_of_revenue"))
    return _difference(sales, cost) if stated_profit is None else stated_profit


def _year_earlier(flow: Figures, end: date) -> float | None:
    before = year_before(sorted({last for _, last in flow}), end)
    return None if before is None else trailing_year(flow, before)


def _counts(counts: Mapping[str, Mapping[date, float]]) -> dict[str, object]:
    """The last count of the shares and one of a year before: of covers, or of the reports themselves where they have
    none lately."""
    covers, reported_shares = counts["shares"], counts["reported_shares"]
    stale = not covers or (reported_shares and (max(reported_shares) - max(covers)).days > OLDEST)
    of_days = reported_shares if stale else covers
    if not of_days:
        return {}
    day = max(of_days)
    near_days = [other for other in of_days if is_between((day - other).days, _SHARE_YEAR)]
    before = min(near_days, key=lambda other: abs((day - other).days - 365), default=None)
    earlier = {} if before is None else {"counted_before": before, "shares_before": of_days[before]}
    return {"counted_on": day, "shares": of_days[day], **earlier}


def _of_days(figures: Figures) -> dict[date, float]:
    return {end: value for (start, end), value in figures.items() if start is None}


def _mean(now: float | None, before: float | None) -> float | None:
    return None if now is None else now if before is None else (now + before) / 2


def _difference(minuend: float | None, subtrahend: float | None) -> float | None:
    return None if minuend is None or subtrahend is None else minuend - subtrahend


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    return None if numerator is None or denominator is None or denominator <= 0 else numerator / denominator


def _growth(now: float | None, before: float | None) -> float | None:
    ratio = _ratio(now, before)
    return None if ratio is None else ratio - 1


FUNDAMENTALS_GROUP = register_side_group(
    SideGroup(
        name="fundamentals",
        reads=("fundamentals",),
        columns=COLUMNS,
        compute=fundamental_features,
        lookback=LOOKBACK,
        in_model=False,
    )
)
