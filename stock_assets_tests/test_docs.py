"""The documents are derived where they can be, and what they name exists."""

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs import make_tables
from stock_assets.cli.commands import app
from stock_assets.setting_values import inherited_last
from stock_assets.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent
README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
WIDTH = 120
#: Files that users write, or that stood here before, as records and the history of changes call them.
NOT_IN_THE_REPOSITORY = {"stock_assets.toml", "settings.toml", "model/recipes.py"}


def prose_and_code(text: str) -> tuple[str, str]:
    """A page's lines outside fenced code and those inside; each line of the page is an empty one of the other part."""
    prose, code, fenced = [], [], False
    for line in text.splitlines():
        fence = line.startswith("```")
        fenced ^= fence
        prose.append("" if fenced or fence else line)
        code.append(line if fenced and not fence else "")
    return "\n".join(prose), "\n".join(code)


def spans(prose: str) -> list[str]:
    """What stands between backticks, on one line; a span does not reach into another paragraph."""
    return [" ".join(span.split()) for part in prose.split("\n\n") for span in re.findall(r"`([^`]+)`", part)]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose_and_code(page.read_text())[0], flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# ---------------------------------------------------------------- derived pages


def test_derived_pages_are_up_to_date():
    # in a process of its own: tests of extensions declare tables that no page shows
    command = [sys.executable, "-m", "docs.make_tables", "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_generator_writes_what_is_out_of_date_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "docs").mkdir()
    readme = tmp_path / "README.md"
    readme.write_text(
        "<!-- begin graph --><!-- end graph -->\n<!-- begin graph of bars --><!-- end graph of bars -->\n"
        "<!-- begin settings --><!-- end settings -->\n"
    )
    monkeypatch.setattr(make_tables, "ROOT", tmp_path)
    assert make_tables.main(["--check"]) == 1
    assert "README.md is out of date" in capsys.readouterr().out
    assert "daily_bars" not in readme.read_text()
    assert make_tables.main([]) == 0
    assert "| [`daily_bars`](docs/tables.md#daily_bars) | market | session |" in readme.read_text()
    assert "### daily_bars" in (tmp_path / "docs" / "tables.md").read_text()
    assert make_tables.main(["--check"]) == 0


@pytest.mark.parametrize("text", ["no marker", "<!-- end a --><!-- begin a -->", "<!-- begin a -->"])
def test_a_page_without_its_markers_is_one_clear_error(text: str):
    with pytest.raises(ValueError, match="expected <!-- begin a --> and then <!-- end a -->"):
        make_tables.put_between(text, "a", "new")


def test_the_examples_of_the_generator_hold():
    results = doctest.testmod(make_tables)
    assert results.attempted
    assert not results.failed


def test_every_setting_stands_in_the_readme():
    table = README.read_text().split("<!-- begin settings -->")[1].split("<!-- end settings -->")[0]
    assert re.findall(rf"^\| `{PREFIX}(\w+)`", table, flags=re.MULTILINE) == [
        name.upper() for name, _ in inherited_last(Settings).items()
    ]


# ---------------------------------------------------------------- what the pages name


def test_every_relative_link_resolves():
    broken = []
    for page in PAGES:
        prose, _ = prose_and_code(page.read_text())
        for link in re.findall(r"\]\(([^)\s]+)\)", prose):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            local = not re.match(r"\w+:", link)
            if local and not (target.exists() and (not anchor or anchor in anchors(target))):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert not broken, "\n".join(broken)


def test_every_file_that_a_page_names_exists():
    missing = []
    for page in PAGES:
        prose, _ = prose_and_code(page.read_text())
        named = {span for span in spans(prose) if re.fullmatch(r"[\w./]+\.(py|md|j2|yaml|toml)", span)}
        places = (ROOT, page.parent, ROOT / "stock_assets", ROOT / "stock_assets_tests")
        for name in sorted(named - NOT_IN_THE_REPOSITORY):
            if not any((place / name).exists() for place in places) and not list(ROOT.glob(f"stock_assets/*/{name}")):
                missing.append(f"{page.relative_to(ROOT)}: {name}")
    assert not missing, "\n".join(missing)


def test_no_line_outside_tables_and_code_is_too_long():
    long = []
    for page in PAGES:
        for number, line in enumerate(prose_and_code(page.read_text())[0].splitlines(), start=1):
            if len(line) > WIDTH and not line.startswith("|"):
                long.append(f"{page.relative_to(ROOT)}:{number}: {len(line)} columns")
    assert not long, "\n".join(long)


def test_every_command_that_a_page_shows_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    commands = {each.name or each.callback.__name__ for each in app.registered_commands if each.callback}
    commands |= {group.name for group in app.registered_groups if group.name}
    benchmarks = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    unknown = []
    for page in PAGES:
        prose, code = prose_and_code(page.read_text())
        for line in [*code.splitlines(), *spans(prose)]:
            for pattern, there in (
                (r"(?:^|\s)make ([a-z-]+)$|(?:^|\s)make ([a-z-]+)\s", targets),
                (r"(?:^|/)stock-assets ([a-z]+)", commands),
                (r"python -m benchmarks[ .]([a-z_]+)", benchmarks),
            ):
                named = {name for found in re.finditer(pattern, line) for name in found.groups() if name}
                unknown += [f"{page.relative_to(ROOT)}: {line}" for name in named - there]
    assert not unknown, "\n".join(unknown)


def test_the_recipes_for_contributors_run():
    # in a process of its own: each recipe registers what it makes
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", CONTRIBUTING.read_text(), flags=re.MULTILINE | re.DOTALL))
    assert code
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.xdist_group("demo")
@pytest.mark.usefixtures("demo")
def test_the_example_of_the_readme_runs():
    (example,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), flags=re.MULTILINE | re.DOTALL)
    exec(compile(example, str(README), "exec"), {})
