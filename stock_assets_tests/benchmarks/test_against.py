"""Two commits beside each other."""

import subprocess
from pathlib import Path

import pytest

from benchmarks.against import checked_out, figures, page_of

PAGE = "print('| step | seconds | rows |'); print('| --- | --: | --: |'); print('| all | {seconds} | 1,200 |')"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose only benchmark printed 4 s in its first commit and prints 2 s in its folder."""

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    main = tmp_path / "benchmarks" / "any.py"
    main.parent.mkdir()
    git("init")
    main.write_text(PAGE.format(seconds="4.0 s"))
    git("add", ".")
    git("commit", "-m", "the first")
    main.write_text(PAGE.format(seconds="**2.0 s**"))
    return tmp_path


def test_the_figures_of_an_older_commit_and_of_the_files_here(project: Path):
    with checked_out("HEAD", project) as older:
        assert figures(page_of(older, ["any"])) == {("step", "all", "seconds"): 4, ("step", "all", "rows"): 1200}
        assert figures(page_of(project, ["any"])) == {("step", "all", "seconds"): 2, ("step", "all", "rows"): 1200}
    assert not older.exists()
    listed = subprocess.run(["git", "-C", str(project), "worktree", "list"], check=True, capture_output=True, text=True)
    assert len(listed.stdout.splitlines()) == 1, "git keeps no trace of it"


def test_an_unknown_commit_and_a_failing_benchmark_are_errors(project: Path):
    with pytest.raises(subprocess.CalledProcessError), checked_out("nothing", project):
        pass
    (project / "benchmarks" / "any.py").write_text("raise SystemExit(1)")
    with pytest.raises(subprocess.CalledProcessError):
        page_of(project, ["any"])


def test_what_is_no_number_is_no_figure():
    page = "| a | b |\n|---|--:|\n| x | – |\n| y | 1.5 [1, 2] |\n\ntext\n| c | d |\n|---|---|\n| x | -3 |\n"
    assert figures(page) == {("a", "y", "b"): 1.5, ("c", "x", "d"): -3}
