"""The documentation is true: its code runs, its files exist, its table of verbs is the code's."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sklvm

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_CODE = [page for page in PAGES if "\n```python\n" in page.read_text("utf-8")]


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def code_of(page):
    """The python blocks of a page, each line at the line number that it has in the page."""
    lines, inside = [], False
    for line in page.read_text("utf-8").splitlines():
        lines.append(line if inside and line != "```" else "")
        inside = line == "```python" or (inside and line != "```")
    return "\n".join(lines) + "\n"


def test_pages_have_the_code_that_is_promised():
    assert {"README.md", "docs/extending.md"} <= {name_of(page) for page in WITH_CODE}
    assert code_of(ROOT / "README.md").count("import") >= 2
    assert "assert " in code_of(ROOT / "docs" / "extending.md")


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_code_runs(page, tmp_path):
    script = tmp_path / f"{page.stem}.py"
    script.write_text(code_of(page), "utf-8")
    run = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", script],
        cwd=tmp_path,
        env=os.environ | {"SCIPY_ARRAY_API": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_points_to_is_there(page):
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert (page.parent / target).exists(), target
    for path in set(re.findall(r"`((?:[\w]+/)*[\w]+\.py)`", text)) - {"geometric.py"}:
        places = [ROOT / path, ROOT / "sklvm" / path, ROOT / "sklvm" / "emissions" / path]
        assert any(p.exists() for p in places) or path == "sklvm/emissions/geometric.py", path


def verbs():
    """The README's tables of verbs: yields (model, verb, whether it is said to have it)."""
    head = []
    for line in (ROOT / "README.md").read_text("utf-8").splitlines():
        row = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            head = []
        elif row[0] == "verb":
            head = row[1:]
        for model, cell in zip(head, row[1:]):
            for verb in re.findall(r"`(\w+)`", row[0]):
                yield model.strip("`"), verb, cell == "yes"


def test_the_table_of_verbs_is_true():
    claims = list(verbs())
    assert {model for model, _, _ in claims} >= {"GaussianMixture", "EMFactorAnalysis", "HMM"}
    assert {verb for _, verb, _ in claims} >= {"impute", "condition", "elbo", "predict_proba"}
    wrong = [claim for claim in claims if hasattr(getattr(sklvm, claim[0]), claim[1]) != claim[2]]
    assert wrong == []
