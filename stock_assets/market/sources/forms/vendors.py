"""What vendors call our columns: a row per vendor or language, so that a new form is one line.

A row without `tells` holds names that mean the same in every file. A row with `tells` counts where all of these names
are in the file, written exactly so: a `Price` alone is no close, and `t` no time.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Form(NamedTuple):
    """The names that one vendor has for our columns."""

    vendor: str
    names: Mapping[str, str]
    """ours to theirs; several are separated by |, and the first that a file has counts"""
    tells: tuple[str, ...] = ()
    """names by which the form is recognized"""
    date_format: str | None = None
    """how this vendor always writes its dates, where day and month could be either"""


#: Case, accents, spaces and signs do not count in the names of rows without `tells`.
#: `at` is a moment, `session` a day, `clock` the time of that day.
FORMS = (
    Form(
        "Yahoo, yfinance, pandas-datareader",
        {"ticker": "Ticker|Symbol|Symbols|Tickers", "session": "Date|Session", "at": "Datetime|Timestamp|TS|Open time"}
        | {"open": "Open", "high": "High", "low": "Low", "close": "Close", "adj_close": "Adj Close|Adjusted Close"}
        | {"volume": "Volume", "dividend": "Dividends|Dividend", "split_ratio": "Stock Splits|Stock Split"}
        | {"sector": "Sector|GICS Sector", "name": "Name|Brand Name"},
    ),
    # alone, as TradingView and Barchart have it, it is the day or the moment
    Form("Stooq, MetaTrader, Finam", {"volume": "<VOL>", "clock": "<TIME>"}),
    Form("Quandl WIKI", {"dividend": "Ex-Dividend", "split_ratio": "Split Ratio"}),
    Form("zipline csvdir", {"split_ratio": "Split|Splits"}),
    Form("Tiingo", {"adj_close": "adjClose", "dividend": "divCash", "split_ratio": "splitFactor"}),
    Form("Alpha Vantage", {"dividend": "dividend_amount", "split_ratio": "split_coefficient"}),
    Form("Sharadar", {"adj_close": "closeadj"}),
    Form("Dolt", {"ticker": "act_symbol"}),
    Form("EODHD, JoinQuant, baostock", {"ticker": "Code"}),
    Form("many", {"ticker": "Ticker Symbol|Stock Symbol|Security Code|Ticker Name|Stock|Asset"}),
    Form("tushare", {"ticker": "ts_code", "session": "trade_date"}),
    Form("Polygon flat files", {"at": "window_start"}),
    Form("CryptoDataDownload", {"at": "unix|unix timestamp"}),
    Form("Binance", {"at": "open_time"}),
    Form("Moscow Exchange", {"ticker": "SECID", "session": "TRADEDATE"}),
    Form(
        "Indian exchanges", {"volume": "TOTTRDQTY|Total Traded Quantity|No of Shares|TtlTradgVol", "ticker": "TckrSymb"}
    ),
    Form("Indian exchanges, 2024", {"session": "TradDt", "open": "OpnPric", "high": "HghPric", "low": "LwPric"}),
    Form("Indian exchanges, closes", {"close": "ClsPric"}),
    Form(
        "Bloomberg", {"open": "PX_OPEN", "high": "PX_HIGH", "low": "PX_LOW", "close": "PX_LAST", "volume": "PX_VOLUME"}
    ),
    Form("Refinitiv", {"session": "Exchange Date", "ticker": "RIC|Instrument"}),
    Form(
        "with the word price",
        {"open": "Open Price|Opening Price|Price Open", "high": "High Price|Highest Price|Price High"}
        | {"low": "Low Price|Lowest Price|Price Low", "close": "Close Price|Closing Price|Price Close"}
        | {"adj_close": "Adj Close Price|Adjusted Closing Price"}
        | {"session": "Trading Date|Price Date|Trading Day|Day", "volume": "Trading Volume|Share Volume"},
    ),
    Form(
        "akshare and other Chinese files",
        {"ticker": "股票代码|证券代码|代码|基金代码", "session": "日期|交易日期|交易日", "at": "时间"}
        | {"open": "开盘|开盘价", "high": "最高|最高价", "low": "最低|最低价", "close": "收盘|收盘价"}
        | {"volume": "成交量", "name": "名称|股票名称"},
    ),
    Form(
        "Japanese",
        {"session": "日付", "open": "始値", "high": "高値", "low": "安値", "close": "終値", "adj_close": "調整後終値"}
        | {"volume": "出来高", "ticker": "銘柄コード|コード"},
    ),
    Form(
        "Korean",
        {"session": "날짜|일자", "open": "시가", "high": "고가", "low": "저가", "close": "종가", "volume": "거래량"}
        | {"ticker": "종목코드"},
    ),
    Form(
        "German",
        {"session": "Datum", "open": "Eröffnung|Eröffn.|Eröffnungskurs|Erster|Eroeffnung", "high": "Hoch|Tageshoch"}
        | {"low": "Tief|Tagestief", "close": "Schluss|Schlusskurs|Letzter|Zuletzt", "volume": "Volumen|Stücke|Stuecke"},
    ),
    Form(
        "French",
        {"open": "Ouverture|Ouv.", "high": "Haut|Plus haut|+ Haut", "low": "Bas|Plus bas|+ Bas"}
        | {"close": "Clôture|Dernier"},
    ),
    Form(
        "Spanish",
        {"session": "Fecha", "open": "Apertura", "high": "Máximo|Máx.", "low": "Mínimo|Mín.", "close": "Cierre|Último"},
    ),
    Form(
        "Italian and Portuguese",
        {"session": "Data", "open": "Abertura", "high": "Massimo|Máxima", "low": "Minimo|Mínima"}
        | {"close": "Chiusura|Ultimo|Fechamento"},
    ),
    Form(
        "Polish",
        {"open": "Otwarcie", "high": "Najwyższy", "low": "Najniższy", "close": "Zamknięcie", "volume": "Wolumen"},
    ),
    Form("Barchart and others", {"volume": "Vol", "close": "Last"}),
    Form("Nasdaq.com", {"close": "Close/Last"}, ("Close/Last",), "%m/%d/%Y"),
    Form("investing.com", {"close": "Price", "volume": "Vol."}, ("Date", "Price", "Open", "High", "Low")),
    Form(
        "Alpaca, Polygon",
        {"at": "t", "open": "o", "high": "h", "low": "l", "close": "c", "volume": "v", "ticker": "T|S"},
        ("t", "o", "h", "l", "c", "v"),
    ),
)


class Headerless(NamedTuple):
    """A file without a header that its figures give away."""

    vendor: str
    names: tuple[str, ...]
    first: str
    """what the first cell looks like, a pattern"""
    moments: tuple[int, ...] = ()
    """further columns that look so"""


#: Those of which a cell alone says what they are; any other file without a header is read by `headerless.py`.
#: Recognized by the number of columns, by those that hold times, and by high and low, which enclose the other prices.
WITHOUT_HEADER = (
    Headerless(
        "Binance klines",
        (
            *("open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count"),
            *("taker_buy_volume", "taker_buy_quote_volume", "ignore"),
        ),
        r"1\d{12}|1\d{15}",
        (6,),
    ),
    Headerless("Kraken", ("timestamp", "open", "high", "low", "close", "volume", "count"), r"1\d{9}"),
    Headerless("Kraken", ("timestamp", "open", "high", "low", "close", "vwap", "volume", "count"), r"1\d{9}"),
)
