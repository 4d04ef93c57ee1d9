"""The settings of side inputs, which `settings.Settings` inherits: which there are, and who is asked for them."""

from pathlib import Path

from pydantic import BaseModel, Field, SecretStr, field_validator

#: Settings of side inputs that no output and no error shows.
SIDE_SECRETS = ("fred_key", "texts")


class SideSettings(BaseModel):
    """What is read beside prices."""

    side_inputs: tuple[str, ...] | None = Field(
        default=None,
        description="announcements, fundamentals, macro, scheduled_events or texts, separated by commas, or off; those "
        "that help the model and that the other settings allow when unset",
    )
    announcements: Path | None = Field(
        default=None,
        description="a CSV or Parquet file of announcements with the columns ticker, date and when (pre, during, post "
        "or unknown), and known_at where it is there",
    )
    announcement_notice: int = Field(
        default=14,
        ge=0,
        le=364,
        description="days before its date at which an announcement of a file without known_at counts as known; 0 for "
        "not before it happened",
    )
    sec_contact: str | None = Field(
        default=None,
        pattern=r"^[ -~]*[!-~]+@[!-~]+\.[!-~]+[ -~]*$",
        max_length=200,
        description="a name and an e-mail address, in plain letters (ASCII), that the SEC asks every program for; it "
        "is not asked when unset",
    )
    sec_companies: Path | None = Field(
        default=None,
        description="a CSV file of the companies that tickers stood for, with the columns ticker, cik (the number of "
        "the SEC), first and last (days, or empty): for tickers that it lists no more, and numbers that changed",
    )
    fred_key: SecretStr | None = Field(
        default=None, description="the key of FRED for economic series; it is not asked when unset"
    )
    fred_series: tuple[str, ...] = Field(
        default=("PAYEMS", "UNRATE", "CPIAUCSL", "ICSA", "RSAFS", "INDPRO", "T10Y2Y", "BAA10Y"),
        description="series of FRED, as it spells them, separated by commas",
    )
    scheduled_events: tuple[str, ...] = Field(
        default=(),
        description="separated by commas: pages of the meetings of the Fed (https://www.federalreserve.gov/"
        "monetarypolicy/fomccalendars.htm and fomchistorical2014.htm), saved copies of them, and CSV, Parquet or JSONL "
        "files with the columns subject and day, and time and known_at where they are there; expiries and payrolls by "
        "rule alone when unset",
    )
    texts: str | None = Field(
        default=None,
        repr=False,
        description="headlines or messages: a CSV, Parquet or JSONL file with the columns ticker, published and title, "
        "or RSS or Atom feeds separated by commas, each as TICKER=address or with {ticker} in its address; none when "
        "unset",
    )
    text_model: Path | None = Field(
        default=None,
        description="the folder of a transformer that tells positive from negative texts; dictionaries judge them when "
        "unset",
    )

    @field_validator("side_inputs", "fred_series", "scheduled_events", mode="before")
    @classmethod
    def _split_side_inputs(cls, value: object) -> object:
        if value in ("off", "", []):
            return ()
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("announcements", "sec_companies")
    @classmethod
    def _is_a_file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError("no such file")
        return value
