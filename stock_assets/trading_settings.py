"""The settings of trading, which `settings.Settings` inherits: books, the broker and its account."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, SecretStr, model_validator

from stock_assets.settings_file import PREFIX

#: Settings of trading that no output and no error shows.
TRADING_SECRETS = ("alpaca_key", "alpaca_secret")


class TradingSettings(BaseModel):
    """What is traded on paper, and through which broker."""

    books: Path | None = Field(
        default=None,
        description="a TOML file with a table [[book]] for every book (docs/trading.md); long_only and long_short at "
        "their defaults when unset",
    )
    broker: Literal["simulated", "alpaca", "off"] = Field(
        default="simulated",
        description="simulated, alpaca or off: the broker of the account; simulated needs no server and no money",
    )
    paper_book: str = Field(
        default="long_only", pattern="^[a-z][a-z0-9_]*$", description="the book that the account at the broker follows"
    )
    alpaca_key: SecretStr | None = Field(default=None, description="the key of the account at Alpaca")
    alpaca_secret: SecretStr | None = Field(default=None, description="the secret that belongs to this key")
    trading: Literal["paper", "live"] = Field(
        default="paper",
        description="paper, or live: orders for money, which need the setting account_number as well",
    )
    account_number: str | None = Field(
        default=None,
        pattern="^[A-Za-z0-9-]{4,40}$",
        description="the number of the account at the broker; no order goes to another one, and live trading needs it",
    )

    @model_validator(mode="after")
    def _names_an_account(self) -> "TradingSettings":
        if self.broker == "alpaca" and (self.alpaca_key is None or self.alpaca_secret is None):
            raise ValueError(f"{PREFIX}BROKER=alpaca; expected {PREFIX}ALPACA_KEY and {PREFIX}ALPACA_SECRET as well")
        if self.trading == "live" and self.broker != "alpaca":
            raise ValueError(f"{PREFIX}TRADING=live with {PREFIX}BROKER={self.broker}; expected the broker alpaca")
        if self.trading == "live" and self.account_number is None:
            raise ValueError(
                f"{PREFIX}TRADING=live; expected {PREFIX}ACCOUNT_NUMBER with the number of the account as well"
            )
        return self
