"""An extension of the servers of these tests: their sensor `evening` looks at every turn of the daemon, which is every
five seconds, so that no test waits for a minute."""

import sys

if automation := sys.modules.get("stock_assets.defs.automation"):  # a process without definitions has none
    automation.EVENING_SECONDS = 5
