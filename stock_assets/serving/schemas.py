"""The answers as OpenAPI describes them. No answer is made or checked by these classes: the routes send bytes."""

from datetime import date
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, Field

RowStatus = Literal["predicted", "left_out", "not_predicted", "unknown_ticker", "unknown_model"]
BatchStatus = Literal[
    "predicted",
    "left_out",
    "not_predicted",
    "unknown_ticker",
    "unknown_model",
    "holiday",
    "not_yet",
    "due",
    "late",
    "not_published",
]


class Row(BaseModel):
    """What a model says of a ticker in a session, or why it says nothing."""

    status: RowStatus
    reason: str | None = Field(description="why there is no prediction; null where there is one")
    p_sell: float | None = Field(description="probability that the lower barrier is touched first")
    p_hold: float | None = Field(description="probability that neither is touched")
    p_buy: float | None = Field(description="probability that the upper barrier is touched first")
    score: float | None = Field(description="p_buy - p_sell")
    rank: int | None = Field(description="1 for the highest score of the model and session")
    model_version: str | None
    trained_through: date | None = Field(description="the cutoff of the version; before the session")
    suspect: str | None = Field(description="why the bar cannot be trusted; null for a trusted one")
    label: Literal[-1, 0, 1] | None = Field(
        description="what came true: 1 buy, -1 sell, 0 hold; null until it is known"
    )
    horizon_end: date | None = Field(description="the session on which the label became known; null until then")


class RowOfATicker(Row):
    """A row, with its ticker."""

    ticker: str


class RowOfASession(Row):
    """A row, with its session."""

    session: date
    published_at: AwareDatetime | None = Field(description="when the session was published as it is")


class OfASession(BaseModel):
    """What the rows of a session have in common."""

    session: date
    model: str
    horizon: int = Field(description="how far the label looks ahead, in the ticker's own bars")
    publication: str = Field(description="the entry of the ledger that the answer is of")
    published_at: AwareDatetime | None = Field(
        description="when the session was published as it is; null where the ledger is damaged"
    )
    simulated: bool = Field(description="whether the prices are no real ones")


class OnePrediction(RowOfATicker, OfASession):
    """One prediction."""


class PredictionsOfADay(OfASession):
    """A page of the predictions of a session."""

    model_version: str | None = Field(description="the version that made the rows; null where there were several")
    predictions: list[RowOfATicker]
    next: str | None = Field(description="the cursor of the next page; null on the last one")


class ResultOfABatch(RowOfATicker, OfASession):
    """The answer to one item."""

    status: BatchStatus  # type: ignore[assignment]


class BatchOfPredictions(BaseModel):
    """One result per item, in their order."""

    publication: str
    model: str
    results: list[ResultOfABatch]


class HistoryOfATicker(BaseModel):
    """A page of the history of a ticker."""

    ticker: str
    model: str
    horizon: int
    publication: str
    simulated: bool
    predictions: list[RowOfASession]
    next: str | None


class Ranking(OfASession):
    """The ends of the order of a session."""

    model_version: str | None
    tickers: int = Field(description="tickers in the whole order")
    top: list[RowOfATicker] = Field(description="the highest scores, the highest first")
    bottom: list[RowOfATicker] = Field(description="the lowest scores, the lowest first")
    next: None


class SessionOfTheExchange(BaseModel):
    """What is known of a day."""

    day: date
    status: Literal["published", "due", "late", "holiday", "not_yet", "not_published"]
    reason: str
    exchange: str
    zone: str
    closes_at: AwareDatetime | None = Field(description="UTC; null for a day that is published or no session")
    closes_at_local: AwareDatetime | None = Field(description="the same moment on the clock of the exchange")
    due_at: AwareDatetime | None = Field(description="when its predictions are asked for")
    late_after: AwareDatetime | None
    published_at: AwareDatetime | None
    publication: str | None = Field(description="the entry that published it as it is")
    code_version: str | None
    previous: date | None = Field(description="the session before")
    next: date | None = Field(description="the session after")
    simulated: bool


class Model(BaseModel):
    """Which version of a model serves."""

    model: str
    in_service: bool = Field(description="whether it answers when no model is named")
    serving: str | None = Field(description="the version that serves")
    asked: str | None = Field(description="the version that the alias asks for, which serves once it has predicted")
    trained_through: date | None
    effective_from: date | None = Field(description="the first session that it serves")
    reason: str | None


class ModelsInService(BaseModel):
    """Every model."""

    publication: str
    models: list[Model]


class ModelInService(Model):
    """One model with its versions."""

    versions: list[str] = Field(description="those that have a card, the newest cutoff last")
    aliases: list[dict[str, Any]]
    scores: list[dict[str, Any]] = Field(description="its walk-forward score, and that of the best naive baseline")
    promotions: list[dict[str, Any]]
    publication: str


class Card(BaseModel):
    """The card of a model version; docs/serving.md lists its fields."""

    model_config = {"extra": "allow"}


class MonitoringTable(BaseModel):
    """The rows of a table, under its own name."""

    model_config = {"extra": "allow"}

    publication: str
    next: None


class PublicationEntry(BaseModel):
    """One publication."""

    id: str
    published_at: AwareDatetime
    previous: str | None
    reason: str
    code_version: str
    champions: dict[str, str] = Field(description="the version that served, by model")
    sessions: int = Field(description="sessions whose predictions are new in it")
    first_session: date | None
    last_session: date | None


class Publications(BaseModel):
    """A page of the ledger."""

    publication: str
    publications: list[PublicationEntry]
    next: str | None


class Publication(PublicationEntry):
    """One publication with its files."""

    files: dict[str, dict[str, str]] = Field(description="the digest of every file that is new in it, by kind and key")


class Alive(BaseModel):
    """The process runs."""

    status: Literal["alive"]


class Sample(BaseModel):
    """The answer that was built."""

    ticker: str | None
    model: str
    status: str


class Readiness(BaseModel):
    """The server answers."""

    status: Literal["ready", "degraded"]
    degraded: str | None = Field(description="what of the published is not served, and why; null when all is well")
    publication: str
    session: date | None = Field(description="the newest session that is published")
    published_at: AwareDatetime
    age_seconds: float
    sessions_behind: int = Field(description="sessions that are late")
    next_session: date | None
    due_at: AwareDatetime | None
    sample: Sample
    simulated: bool


class RowOfABar(BaseModel):
    """What a model said at the end of the newest bar of a ticker."""

    ticker: str
    bar_end: AwareDatetime = Field(description="the end of the bar")
    expected_return: float | None = Field(description="of the horizon, a fraction; null where the model states none")
    p_sell: float = Field(description="probability that the lower barrier is touched first")
    p_hold: float = Field(description="probability that neither is touched")
    p_buy: float = Field(description="probability that the upper barrier is touched first")
    score: float = Field(description="p_buy - p_sell")
    model_version: str
    trained_through: AwareDatetime = Field(description="the cutoff of the version")
    published_at: AwareDatetime = Field(description="when it was said first")


class SessionOfABook(BaseModel):
    """How a book of the back-test of bars stood at the last bar of a session."""

    session: date
    equity: float = Field(description="cash and positions, in the listing's currency")
    drawdown: float = Field(description="the fall from the highest bar so far, a fraction")
    traded: float = Field(description="value traded in the session")


class BookOfBars(BaseModel):
    """A book of the back-test of bars, or a baseline: what acting on the scores would have earned."""

    book: str
    model: str
    is_baseline: bool = Field(description="whether it follows no model: hold and equal_weight")
    sleeves: int = Field(description="K, the bars over whose targets is averaged")
    capital: float
    sessions: int
    total: float = Field(description="what the capital has grown by, after all costs, a fraction")
    net_return: float | None = Field(description="mean of a session, after costs")
    gross_return: float | None = Field(description="mean of a session, before costs")
    turnover: float = Field(description="value traded a session over the equity")
    net_sharpe: float | None = Field(description="of 252 sessions")
    net_sharpe_low: float | None = Field(description="lower end of its 95 % interval, of whole sessions")
    net_sharpe_high: float | None
    break_even: float | None = Field(description="cost of a trade at which nothing is earned, a fraction")
    break_even_low: float | None
    break_even_high: float | None
    deepest: float = Field(description="the deepest fall from a peak, by bars")
    spread: float = Field(description="of the capital, as the other costs")
    impact: float
    commission: float
    borrow: float
    equity: list[SessionOfABook]


class BacktestOfBars(BaseModel):
    """The back-test of the newest sessions of a market of bars."""

    made_at: AwareDatetime
    source: str
    interval: str
    currency: str | None
    overnight: bool = Field(description="whether positions are held while the exchange is closed")
    simulated: bool = Field(description="whether the prices are no real ones")
    first: date
    last: date
    books: list[BookOfBars]


class BarsOfASession(BaseModel):
    """The newest published session of a market of bars."""

    session: date
    bar_end: AwareDatetime = Field(description="the end of the newest bar of any ticker")
    published_at: AwareDatetime
    interval: str
    exchange: str
    source: str
    horizon: int = Field(description="how far the label looks ahead, in bars")
    in_service: str = Field(description="the model that answers when none is named")
    champion: str | None = Field(description="the version of it that served the newest bar")
    next_bar_end: AwareDatetime | None = Field(description="of the next bar that is expected; null after the last one")
    late_after: AwareDatetime | None = Field(description="when that bar is late")
    late: bool
    simulated: bool = Field(description="whether the prices are no real ones")
    model: str = Field(description="the model of the rows")
    rows: list[RowOfABar]
