"""Modules of your own that add a source, an indicator, a model, a check, a figure, a channel or a table.

    STOCK_ASSETS_EXTENSIONS=my_models,my_source make run

Every process imports them once, before it looks anything up: the web server's code location and its runs, the command
line, `stock_assets.open()` and the workers of the tuning. A module is looked for where Python looks, and in the
folder of the settings file.

A worker is started as `python -m stock_assets.extensions MODULE ARGUMENTS…`, which imports the extensions and then runs
the module.
"""

import runpy
import sys
from collections.abc import Sequence
from importlib import import_module

from stock_assets.errors import SettingsError
from stock_assets.settings import PROJECT_DIR, Settings, settings
from stock_assets.settings_file import settings_file


def load_extensions(config: Settings) -> None:
    """Imports the modules that the setting `extensions` names, in their order; one that is imported stays so.

    Raises SettingsError that names the module and what went wrong.
    """
    if config.extensions and (file := settings_file(PROJECT_DIR)) and str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    for name in config.extensions:
        try:
            import_module(name)
        except Exception as error:
            raise SettingsError(
                f"the extension {name} cannot be imported ({type(error).__name__}: {error}); expected Python modules "
                "separated by commas, each installed, on PYTHONPATH or in the folder of the settings file"
            ) from error


def main(arguments: Sequence[str]) -> None:
    """Runs a module as `python -m` does, after the extensions are imported."""
    load_extensions(settings())
    module, *module_arguments = arguments
    sys.argv = [module, *module_arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
