"""The environment of every template: what is shown is escaped, and an unknown name is an error."""

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from stock_assets.escape import html_value
from stock_assets.pages.numbers import FILTERS

if TYPE_CHECKING:
    from jinja2 import Environment, Template

#: The package whose templates every other one may include.
SHARED = "stock_assets.pages"


def page_template(name: str, package: str = SHARED) -> "Template":
    """The template `name` of `package`, which may include those of this package."""
    return _environment(package).get_template(name)


@cache
def _environment(package: str) -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def source(name: str) -> str | None:
        paths = (files(package_name).joinpath(name) for package_name in dict.fromkeys((package, SHARED)))
        return next((path.read_text("utf-8") for path in paths if path.is_file()), None)

    environment = Environment(
        loader=FunctionLoader(source),
        autoescape=True,
        finalize=html_value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    return environment


def render(name: str, package: str = SHARED, **values: Any) -> str:
    """The page that the template `name` of `package` makes of `values`."""
    return page_template(name, package).render(values)
