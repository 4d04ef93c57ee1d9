"""What the trading room keeps. Money is in the listing's currency, weights are fractions of a book's equity."""

import polars as pl

from stock_assets.tables import SESSION, TICKER, UTC_TIME, Column, Table, declare

_BOOK = Column("book", pl.String(), "the book, as its configuration names it")
_SETTINGS = Column("settings", pl.String(), "a digest of the book's configuration, costs and limits included")
_MONEY = "listing currency"


def _money(name: str, text: str) -> Column:
    return Column(name, pl.Float64(), text, unit=_MONEY)


TARGET_WEIGHTS = declare(
    Table(
        "target_weights",
        "trading",
        "what a book wants to hold of a ticker after a session's close, before its orders are sized",
        (
            _BOOK,
            SESSION,
            TICKER,
            Column("model", pl.String(), "the model whose scores it follows"),
            Column("model_version", pl.String(), "the version that made the score; null where it has none"),
            Column("score", pl.Float64(), "the score that the book ranks by; null where there is none"),
            Column("own", pl.Float64(), "the target of this session alone: one of the K sleeves", unit="fraction"),
            Column(
                "weight",
                pl.Float64(),
                "the mean of the last K sessions' own targets; null holds what there is",
                unit="fraction",
            ),
            Column("sleeves", pl.Int64(), "K, the sessions over whose own targets the weight is the mean"),
            Column(
                "reason",
                pl.String(),
                "why nothing is traded: no bar, suspect, no prediction or too few names; null where it is",
            ),
            _SETTINGS,
        ),
        keys=("book", "session", "ticker"),
        partitions="predicted session",
    )
)

FILLS = declare(
    Table(
        "fills",
        "trading",
        "what became of an order of the back-test at the open of the session: orders that expired are rows as well",
        (
            _BOOK,
            SESSION,
            TICKER,
            Column(
                "ordered", pl.Float64(), "shares that were ordered at the close before, after a split", unit="shares"
            ),
            Column("filled", pl.Float64(), "shares that were filled; negative for a sale", unit="shares"),
            Column("price", pl.Float64(), "the open of the session; null where nothing was filled", unit=_MONEY),
            _money("spread", "cost of half the spread"),
            _money("impact", "cost of moving the price"),
            _money("commission", "commission and fees"),
            Column("reason", pl.String(), "filled, or why the rest of the order expired"),
        ),
        keys=("book", "session", "ticker"),
        partitions="predicted session",
    )
)

POSITIONS = declare(
    Table(
        "positions",
        "trading",
        "a position of the back-test at the close of a session, and what it earned and cost in it; one that was closed "
        "in the session has 0 shares",
        (
            _BOOK,
            SESSION,
            TICKER,
            Column("shares", pl.Float64(), "at the close, negative for a short", unit="shares"),
            _money("mark", "the last trusted close"),
            _money("value", "shares times mark"),
            Column("weight", pl.Float64(), "value over the equity of the book", unit="fraction"),
            Column("frozen", pl.Int64(), "sessions before this one, in a row, without a trusted bar or a target"),
            _money("price_gain", "gain of prices since the close before, and of the fills since the open"),
            _money("dividend", "dividends received; negative where a short paid them"),
            _money("ending", "gain or loss of a listing that ended"),
            _money("borrow", "cost of borrowing the shares of a short"),
        ),
        keys=("book", "session", "ticker"),
        partitions="predicted session",
    )
)

EQUITY = declare(
    Table(
        "equity",
        "trading",
        "a book of the back-test at the close of a session: what it is worth, and where the change came from",
        (
            _BOOK,
            SESSION,
            _money("equity", "cash and positions"),
            _money("cash", "the cash, the proceeds of shorts included"),
            Column("net_return", pl.Float64(), "change of the equity over the equity before", unit="fraction"),
            Column("gross_return", pl.Float64(), "the same before every cost", unit="fraction"),
            _money("price_gain", "of all positions"),
            _money("dividend", "of all positions"),
            _money("ending", "of listings that ended"),
            _money("interest", "on cash, negative where it is owed"),
            _money("spread", "cost"),
            _money("impact", "cost"),
            _money("commission", "cost, with fees"),
            _money("borrow", "cost"),
            Column("turnover", pl.Float64(), "value traded over the equity before", unit="fraction"),
            Column("long", pl.Float64(), "value of the long positions over equity", unit="fraction"),
            Column("short", pl.Float64(), "value of the short positions over equity, not below zero", unit="fraction"),
            Column(
                "beta",
                pl.Float64(),
                "of the positions to the market, by the 250 sessions to the close; 1 where it is unknown",
            ),
            Column("names", pl.Int64(), "positions held"),
            Column("ordered", pl.Int64(), "orders of the close before"),
            Column("unfilled", pl.Int64(), "of these, orders of which a part expired"),
            Column("market", pl.Float64(), "total return of the market's fund from the close before", unit="fraction"),
            Column("equal_weight", pl.Float64(), "mean total return of the book's universe", unit="fraction"),
            Column(
                "scale",
                pl.Float64(),
                "what the targets of this close are multiplied by: for the volatility target, and for the room that "
                "held positions leave; 1 without a reason",
            ),
            _SETTINGS,
        ),
        keys=("book", "session"),
        partitions="predicted session",
    )
)

BACKTEST = declare(
    Table(
        "backtest",
        "trading",
        "a back-test over all sessions: one book at one number of sleeves, one scale of costs and one capital",
        (
            _BOOK,
            Column("model", pl.String(), "the model whose scores it follows"),
            Column(
                "sleeves",
                pl.Int64(),
                "K, the sessions over whose targets is averaged; 0 where the years before choose it for each year",
            ),
            _money("capital", "at the first session"),
            Column("spread_scale", pl.Float64(), "the half-spread over that of the book's costs"),
            Column("variant", pl.String(), "base, or what differs from the book as it is configured"),
            Column("first", pl.Date(), "the first session"),
            Column("last", pl.Date(), "the last session"),
            Column("sessions", pl.Int64(), "sessions"),
            Column("net_sharpe", pl.Float64(), "a year, after all costs"),
            Column("net_sharpe_low", pl.Float64(), "lower end of its 95 % interval, autocorrelation allowed for"),
            Column("net_sharpe_high", pl.Float64(), "upper end of it"),
            Column(
                "deflated_sharpe", pl.Float64(), "probability that it is above what the best of `trials` has by luck"
            ),
            Column("trials", pl.Int64(), "back-tests, tunings and challengers that the store had counted by then"),
            Column("gross_return", pl.Float64(), "mean of a session, before costs", unit="fraction"),
            Column("net_return", pl.Float64(), "mean of a session, after costs", unit="fraction"),
            Column("turnover", pl.Float64(), "mean of a session", unit="fraction"),
            Column("break_even", pl.Float64(), "cost of a trade at which nothing is earned", unit="fraction"),
            Column("break_even_low", pl.Float64(), "lower end of its 95 % interval"),
            Column("break_even_high", pl.Float64(), "upper end of it"),
            Column("drawdown", pl.Float64(), "deepest fall from a peak", unit="fraction"),
            _money("capacity", "capital at which the net gain in money is largest; null where it is not positive"),
            _money("capacity_low", "at the lower end of the 95 % interval of the return before impact"),
            _money("capacity_high", "at the upper end of it"),
            Column(
                "overfitting",
                pl.Float64(),
                "probability of overfitting: how often the best of the book's models and sleeves in one half of the "
                "sessions is below the median in the other; null for fewer than two",
            ),
            Column("effective_trials", pl.Float64(), "independent trials that those models and sleeves are worth"),
            _SETTINGS,
        ),
        keys=("book", "model", "sleeves", "spread_scale", "variant"),
        exists="both",
    )
)

TEAR_SHEET = declare(
    Table(
        "tear_sheet",
        "trading",
        "a figure of the tear sheet of a book, in the order of the page; the page itself is a self-contained HTML file",
        (
            _BOOK,
            Column("position", pl.Int64(), "its place on the page"),
            Column("section", pl.String(), "the section of the page"),
            Column("figure", pl.String(), "its name"),
            Column("value", pl.Float64(), "the figure; null where it does not exist"),
            Column("low", pl.Float64(), "lower end of its 95 % interval, where it has one"),
            Column("high", pl.Float64(), "upper end of it"),
            Column("definition", pl.String(), "what it is, in one sentence, with its unit"),
        ),
        keys=("book", "position"),
    )
)

ORDERS = declare(
    Table(
        "orders",
        "trading",
        "an order of the account for the next open: the whole plan is stored before the first order is sent",
        (
            _BOOK,
            SESSION,
            TICKER,
            Column("fill_session", pl.Date(), "the session at whose open it is to be filled"),
            Column(
                "client_order_id", pl.String(), "its name at the broker, which follows from book, session and ticker"
            ),
            Column("side", pl.String(), "buy or sell"),
            Column("shares", pl.Float64(), "shares to trade, above zero", unit="shares"),
            _money("reference_price", "the close that it was sized at"),
            Column("weight", pl.Float64(), "the target weight", unit="fraction"),
            _money("equity", "the equity that it was sized at"),
            Column("model_version", pl.String(), "the version whose prediction it follows"),
            Column("plan", pl.String(), "a digest of the whole plan of the book and the session"),
            Column("decided_at", UTC_TIME, "when the plan was stored", unit="UTC"),
        ),
        keys=("book", "session", "ticker"),
        partitions="predicted session",
        followed_by=("publication",),
    )
)

BACKTESTS = declare(
    Table(
        "backtests",
        "trading",
        "a back-test that was computed: the trials that a deflated Sharpe ratio counts",
        (
            Column("digest", pl.String(), "of book, model, sleeves, costs, span and scores"),
            Column(
                "trial",
                pl.String(),
                "the same without the last session and the scores: a trial is counted once, however its span grows",
            ),
            _BOOK,
            Column("variant", pl.String(), "base, or what differs from the book as it is configured"),
            Column("model", pl.String(), "the model whose scores it follows"),
            Column("sleeves", pl.Int64(), "K"),
            Column("costs", pl.String(), "the costs, as JSON"),
            Column("first", pl.Date(), "the first session"),
            Column("last", pl.Date(), "the last session"),
            Column("sessions", pl.Int64(), "sessions"),
            Column("sharpe", pl.Float64(), "of a session, net"),
            Column("skewness", pl.Float64(), "of the net returns"),
            Column("kurtosis", pl.Float64(), "of the net returns, 3 for a normal distribution"),
            Column("computed_at", UTC_TIME, "when", unit="UTC"),
        ),
        keys=("digest",),
        history=True,
        exists="both",
    )
)

ORDER_EVENTS = declare(
    Table(
        "order_events",
        "trading",
        "what was sent to the broker about an order, and what it answered",
        (
            Column("client_order_id", pl.String(), "the order"),
            Column("at", UTC_TIME, "when", unit="UTC"),
            Column("number", pl.Int64(), "its place among the events of the order"),
            Column("event", pl.String(), "looked_up, sent, accepted, refused, unknown or state"),
            Column("status", pl.String(), "the broker's word for the state of the order; null where it gave none"),
            Column("filled", pl.Float64(), "shares filled by then", unit="shares"),
            Column("average_price", pl.Float64(), "of what is filled", unit=_MONEY),
            Column("text", pl.String(), "the broker's own words, or what went wrong"),
        ),
        keys=("client_order_id", "number"),
        history=True,
    )
)

ORDER_GATES = declare(
    Table(
        "order_gates",
        "trading",
        "one condition that has to hold before orders are sent, and whether it did",
        (
            _BOOK,
            SESSION,
            Column("decided_at", UTC_TIME, "when it was decided", unit="UTC"),
            Column("gate", pl.String(), "the condition"),
            Column("passed", pl.Boolean(), "whether it held"),
            Column("value", pl.String(), "what was seen"),
            Column("limit", pl.String(), "what was required"),
            Column("reason", pl.String(), "both in one sentence"),
        ),
        keys=("book", "session", "decided_at", "gate"),
        history=True,
    )
)

BREAKS = declare(
    Table(
        "breaks",
        "trading",
        "a difference between the broker's account and the ledger; nothing is traded while one is open",
        (
            _BOOK,
            SESSION,
            Column("subject", pl.String(), "cash, an order or a ticker"),
            Column("ours", pl.Float64(), "by the ledger: money, or shares of a ticker"),
            Column("theirs", pl.Float64(), "by the broker"),
            Column("cause", pl.String(), "what explains it, as far as is known"),
            Column("seen_at", UTC_TIME, "when it was seen", unit="UTC"),
            Column(
                "resolved_at", UTC_TIME, "when it was gone or a person accepted it; null while it is open", unit="UTC"
            ),
            Column("resolved_by", pl.String(), "who or what ended it"),
        ),
        keys=("book", "session", "subject"),
        history=True,
    )
)

TRADING_SWITCH = declare(
    Table(
        "trading_switch",
        "trading",
        "the kill switch: every halt, and every time a person cleared it",
        (
            Column("at", UTC_TIME, "when", unit="UTC"),
            Column("action", pl.String(), "halt or resume"),
            Column("by", pl.String(), "the person or the rule"),
            Column("reason", pl.String(), "why, in one sentence"),
            Column("canceled", pl.Int64(), "orders that were cancelled at the broker"),
        ),
        keys=("at",),
        history=True,
    )
)

PAPER_EQUITY = declare(
    Table(
        "paper_equity",
        "trading",
        "an account at the broker after a session, with the back-test of the same sessions and what explains the "
        "difference",
        (
            _BOOK,
            SESSION,
            Column("broker", pl.String(), "simulated or alpaca"),
            Column("account", pl.String(), "the account's number at the broker"),
            _money("equity", "the broker's cash, and its shares at our closes"),
            _money("cash", "the broker's cash"),
            _money("ledger_cash", "the cash as the ledger carries it on: the broker's to the cent"),
            _money("backtest_equity", "the ledger's, from the account's first session and capital on"),
            _money("by_price", "difference from fill prices"),
            _money("by_quantity", "from quantities that were filled, refusals included"),
            _money("by_cost", "from fees, borrow and interest"),
            _money("by_event", "from dividends, splits and endings that were booked or not"),
            _money("by_revision", "from bars or predictions that changed since"),
            _money("unexplained", "what no cause explains: 0.00 where all reconciles"),
            Column("positions", pl.Int64(), "positions at the broker"),
            Column("seen_at", UTC_TIME, "when the broker was asked", unit="UTC"),
        ),
        keys=("book", "session"),
        history=True,
    )
)

PAPER_POSITIONS = declare(
    Table(
        "paper_positions",
        "trading",
        "a position of an account at the broker at a close, as it was reconciled with the ledger",
        (
            _BOOK,
            SESSION,
            TICKER,
            Column("shares", pl.Float64(), "shares, negative for a short", unit="shares"),
            _money("mark", "the last trusted close"),
            _money("value", "shares times mark"),
            Column("weight", pl.Float64(), "value over the equity of the account", unit="fraction"),
            Column("frozen", pl.Int64(), "sessions in a row without a trusted bar or a target"),
        ),
        keys=("book", "session", "ticker"),
        history=True,
    )
)
