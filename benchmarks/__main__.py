"""All benchmarks in turn, each in a process of its own, as one Markdown page.

python -m benchmarks [NAME ...] [options of the one NAME]
"""

import shlex
import subprocess
import sys
from itertools import takewhile

from benchmarks.common import preamble
from stock_assets.settings import PROJECT_DIR

TITLES = {
    "imports": "Importing the definitions",
    "indicators": "Indicators and labels against the reference study's loop",
    "event_log": "The event log",
    "fetch": "Fetching from Yahoo",
    "new_session": "One new session",
    "backfill": "Ten years",
    "team": "Ten years with Dagster on Postgres",
    "hosts": "Model years on two hosts",
    "records": "The records of what is stored",
    "one_day": "A day's predictions",
    "evening": "An evening",
    "serving": "The API",
    "republish": "Another version at once",
    "growth": "What an evening leaves on the disk",
    "scale": "How the daily chain grows with the market",
    "ui_partitions": "The UI with twenty years of every asset",
    "repair": "Broken histories: what is found and mended",
    "training": "Training speed against GluonTS's DeepAR",
    "training_scale": "How training grows",
    "known_bound": "How near the models come to the best score there is",
    "walk_forward": "How good the models honestly are",
    "minutes": "Minute bars: a backfill, looks at the running day and a back-test",
    "minutes_drift": "Minute bars: when drift rings",
    "minutes_models": "Minute bars: how good the models honestly are, and how fast",
    "tuning": "What tuning finds",
    "input_value": "What each input is worth",
    "drift": "Drift: when it rings",
    "online": "Online learning: does a weekly update pay?",
    "backtest": "A back-test",
}


def main() -> None:
    arguments = sys.argv[1:]
    names = list(takewhile(lambda argument: not argument.startswith("-"), arguments))
    passed_on = arguments[len(names) :]
    if unknown := [name for name in names if name not in TITLES]:
        sys.exit(f"there is no benchmark {unknown[0]}; expected one of {', '.join(TITLES)}")
    if passed_on and len(names) != 1:
        sys.exit(f"{__doc__}\nNAME is one of {', '.join(TITLES)}; all when none is given")
    print("# Benchmarks\n")
    preamble()
    failed_names = []
    for name in names or TITLES:
        command = shlex.join(["python", "-m", f"benchmarks.{name}", *passed_on])
        print(f"## {TITLES[name]}\n\n`{command}`\n", flush=True)
        start = f"import sys; sys.argv[0] = {name!r}; from benchmarks.{name} import main; main()"
        if subprocess.run([sys.executable, "-c", start, *passed_on], cwd=PROJECT_DIR, check=False).returncode:
            print("Not measured: it ended with an error.\n", flush=True)
            failed_names.append(name)
    sys.exit(f"not measured: {', '.join(failed_names)}" if failed_names else 0)


if __name__ == "__main__":
    main()
