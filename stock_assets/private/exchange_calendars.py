"""The library exchange_calendars, with two offsets that pandas 3.1 no longer calls as they expect.

pandas 3.1 asks an offset for `_add_datetime` and, for a range of days, for `_get_daily_offset_mask`. exchange_calendars
4.13 overrides neither: calendars with an Orthodox Easter (ASEX, XBEL, XBSE, XCYS) raise, and those whose week has
changed (XTAE, XKRX, XBOM, XMOS) lose their Saturdays and Sundays, XBOM and XMOS without a word. Both are set here, once
per process. Import the library from this file.
"""

from typing import TYPE_CHECKING, Any

import exchange_calendars
import numpy as np

from stock_assets.errors import PrivateApiError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TRIED_WITH", "exchange_calendars"]

#: The version that this was tried with, with pandas 3.1.1; constraints.txt pins both.
TRIED_WITH = "4.13.2"

try:
    from exchange_calendars.pandas_extensions.offsets import CompositeCustomBusinessDay, OrthodoxEaster

    _easter = OrthodoxEaster._apply
except (ImportError, AttributeError) as error:
    raise PrivateApiError(
        f"exchange_calendars {exchange_calendars.__version__} lacks what is repaired for pandas 3.1 ({error}); "
        f"expected the names of version {TRIED_WITH}: pip install 'exchange_calendars=={TRIED_WITH}', or change "
        "stock_assets/private/exchange_calendars.py"
    ) from error


def _business_days(offset: Any, days: "NDArray[np.datetime64]") -> "NDArray[np.bool_]":
    """Which of `days` [days] are business days by the rule of the interval that they lie in."""
    days = days.astype("datetime64[D]")
    result = np.is_busday(days, busdaycal=offset.calendar)
    for first, last, rule in offset.business_days:  # an end that is None is open
        within = np.ones(days.shape, dtype=bool) if first is None else days >= np.datetime64(first, "D")
        if last is not None:
            within &= days <= np.datetime64(last, "D")
        result[within] = np.is_busday(days[within], busdaycal=rule.calendar)
    return result


CompositeCustomBusinessDay._get_daily_offset_mask = _business_days  # pyright: ignore[reportAttributeAccessIssue]
OrthodoxEaster._add_datetime = _easter  # pyright: ignore[reportAttributeAccessIssue]
