"""The house rules: which way imports point, what `import sklvm` loads, what the top files say."""

import ast
import configparser
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

import sklvm

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "sklvm"

# From the ground up: a unit (file or folder of sklvm) imports only from storeys below its own.
STOREYS = [
    {"numerics", "parameters", "warn", "state_space_entries"},
    {"emissions", "rotations", "moment_rules"},
    {"inference", "networks"},
    {"posterior", "_compat", "containers", "standardised", "column_types"},
    {"explanation", "combining"},
    {
        *("validation", "callbacks", "closed_form", "parameter_draws"),
        "state_functions",
        *("mixture_state", "factor_state", "vae_state", "vqvae_state", "rbm_units"),
    },
    {
        *("variational_factor_state", "chain_posterior", "state_space_posterior", "rbm_machine"),
        *("gaussian_filter_posterior", "particle_posterior", "rbm_cells", "rbm_counts"),
    },
    {
        *("base", "variational_prior", "sequences", "chain_state", "chain_forecast", "rbm_sums"),
        *("gaussian_filter_state", "rbm_columns", "rbm_known"),
    },
    {
        *("mixture_stream", "mixture_verbs", "factor_base", "factor_search"),
        *("sequence_model", "any_emission", "any_likelihood", "rbm_state", "rbm_fit", "dbn_layers"),
        *("state_space_given", "state_space_start", "state_space_slope", "particle_model"),
    },
    {"state_space_resolved"},
    {"state_space_structure"},
    {
        *("autoencoding", "alignment", "intervals", "chain_verbs", "rbm_training", "dbn_counts"),
        *("state_space_first", "state_space_noise", "state_space_coordinates"),
        *("gaussian_filter_start", "particle_filter_state"),
    },
    {"state_space_state"},
    {"components", "rbm_stream", "state_space_verbs", "state_space_intervals"},
    {"gaussian_filter_fit", "particle_parts", "dbn_weights", "dbn_fit"},
    {
        *("mixture_base", "chain_start", "chain_inference", "factor_intervals", "display"),
        *("gaussian_filter_verbs", "particle_filter_verbs", "dbn_state", "vae_verbs"),
        "vae_context",
    },
    {"factor_report"},
    {
        *("mixture", "variational_mixture", "factor_analysis", "variational_pca"),
        "probabilistic_pca",
        *("factor_mixture", "hmm", "state_space", "vqvae", "rbm", "dbn"),
        *("vae", "vae_start", "vae_prior", "vae_report", "vae_inference", "vqvae_start"),
        *("gaussian_filter", "particle_filter", "dbn_training"),
    },
    {"ensemble", "size_search", "structural"},
    {"imputation_ensemble"},
    {"wrapper", "cases", "per_step", "sequence_split", "outlier_statistics"},
    {"auto", "outlier", "impute", "comparison"},
    {"demo", "__init__"},
]
LEVEL = {unit: level for level, units in enumerate(STOREYS) for unit in units}
SIDEWAYS = {
    *(("dbn", "rbm"), ("dbn", "dbn_training"), ("dbn_training", "rbm")),
    *(("vae", "vae_start"), ("vae_start", "factor_analysis"), ("vae", "mixture")),
    *(("factor_mixture", "mixture"), ("variational_mixture", "mixture"), ("hmm", "mixture")),
    ("variational_pca", "factor_analysis"),
    ("particle_filter", "gaussian_filter"),
    *(("vae", "vae_inference"), ("vae_inference", "vae_report")),
    *(("vae", "vae_prior"), ("vae", "vae_report"), ("vae_prior", "mixture")),
    *(("vae_report", "factor_analysis"), ("vae_report", "mixture"), ("vae_report", "vae_start")),
    *(("vqvae", "vqvae_start"), ("vqvae", "vae_start"), ("vqvae_start", "vae_start")),
    ("demo", "__init__"),
}
ONLY_SEEN_BY = {"display": {"demo", "__init__"}}
MAY_STAY_UNLOADED = {"torch", "numba", "matplotlib", "dask", "rich", "pandas"}


# --- reading import statements ----------------------------------------------------------------


def module_name(path):
    """sklvm/emissions/gaussian.py -> sklvm.emissions.gaussian"""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def unit_of(module):
    """sklvm.emissions.gaussian -> emissions; sklvm -> __init__"""
    return (module.split(".") + ["__init__"])[1]


class Imports(ast.NodeVisitor):
    """Every import of one file: (line, module, name or None, in a function, only for types)."""

    def __init__(self, module, source, is_package=False):
        self.found = []
        self.depth = self.typing = 0
        self.package = module.split(".") if is_package else module.split(".")[:-1]
        self.tree = ast.parse(source)
        self.visit(self.tree)

    def add(self, node, module, name=None):
        self.found.append((node.lineno, module, name, self.depth > 0, self.typing > 0))

    def visit_Import(self, node):
        for alias in node.names:
            self.add(node, alias.name)

    def visit_ImportFrom(self, node):
        here = self.package[: len(self.package) + 1 - node.level] if node.level else []
        base = ".".join(here + ([node.module] if node.module else []))
        for alias in node.names:
            submodule = f"{base}.{alias.name}"
            if submodule in MODULES:  # `from sklvm import base` names a module
                self.add(node, submodule)
            else:
                self.add(node, base, alias.name)

    def visit_FunctionDef(self, node):
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_If(self, node):
        only_types = "TYPE_CHECKING" in ast.unparse(node.test)
        self.typing += only_types
        for child in node.body:
            self.visit(child)
        self.typing -= only_types
        for child in node.orelse:
            self.visit(child)


@cache
def imports_of(module):
    path = MODULES[module]
    return Imports(module, path.read_text("utf-8"), path.name == "__init__.py")


def loads_heavy(module, seen=None):
    """Whether importing this module of sklvm loads one of the packages that may stay unloaded."""
    seen = set() if seen is None else seen
    parents = [p for p in MODULES if p != "sklvm" and f"{module}.".startswith(f"{p}.")]
    for loaded in set(parents) - seen:  # the module and the packages that it lies in
        seen.add(loaded)
        for _, target, _, in_function, only_types in imports_of(loaded).found:
            if in_function or only_types:
                continue
            if target.split(".")[0] in MAY_STAY_UNLOADED:
                return True
            if target in MODULES and target not in seen and loads_heavy(target, seen):
                return True
    return False


def wrong_direction(module, target):
    """Why `module` must not import `target` (both of sklvm), or None."""
    here, there = unit_of(module), unit_of(target)
    if here == there:
        return None
    if there not in LEVEL:
        return f"{there} has no storey in tests/test_house.py"
    if here not in ONLY_SEEN_BY.get(there, {here}):
        return f"only {sorted(ONLY_SEEN_BY[there])} may import {there}"
    if LEVEL[there] < LEVEL[here] or (here, there) in SIDEWAYS:
        return None
    return f"{here} must not import {there}: imports point down, from storey to storey"


def private(module, name):
    words = [*module.split("."), *([name] if name else [])]
    return [w for w in words if w.startswith("_") and not (w.startswith("__") and w.endswith("__"))]


def private_attributes(tree):
    """Private names reached by dots from the name sklearn, as in `sklearn.utils._tags`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            dotted = ast.unparse(node)
            if re.match(r"sklearn(\.\w+)+$", dotted) and private(dotted, None):
                yield node.lineno, dotted


def complaints(module, imports):
    """Every broken import rule of one file, as lines of text."""
    here = unit_of(module)
    if here not in LEVEL:
        yield f"{module}: give {here} a storey in tests/test_house.py"
        return
    for line, target, name, in_function, _ in imports.found:
        top = target.split(".")[0]
        where = f"{module}:{line}: {target}{f'.{name}' if name else ''}"
        if top == "sklvm" and (why := wrong_direction(module, target)):
            yield f"{where}: {why}"
        if top == "sklearn" and here in {"numerics", "emissions"}:
            yield f"{where}: {here} never imports scikit-learn"
        if top == "sklearn" and here != "_compat" and private(target, name):
            yield f"{where}: only _compat.py imports private scikit-learn names"
        heavy = top in MAY_STAY_UNLOADED or (target in MODULES and loads_heavy(target))
        if in_function and not heavy:
            yield f"{where}: an import inside a function is for what must stay unloaded"
    if here != "_compat":
        for line, dotted in private_attributes(imports.tree):
            yield f"{module}:{line}: {dotted}: only _compat.py uses private scikit-learn names"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module):
    assert list(complaints(module, imports_of(module))) == []


@pytest.mark.parametrize(
    ("module", "source", "reason"),
    [
        ("sklvm.numerics.linalg", "from sklvm.base import x", "numerics must not import base"),
        ("sklvm.numerics.linalg", "from ..emissions.simplex import x", "imports point down"),
        ("sklvm.emissions.gaussian", "import sklearn.utils", "never imports scikit-learn"),
        ("sklvm.emissions.gaussian", "def f():\n  import sklearn", "never imports scikit-learn"),
        ("sklvm.inference.sgd", "import sklvm.networks.encoders", "imports point down"),
        ("sklvm.base", "from sklvm.display import x", "may import display"),
        ("sklvm.rbm", "from sklvm.dbn import DeepBeliefNetwork", "rbm must not import dbn"),
        ("sklvm.mixture", "from sklvm import VAE", "mixture must not import __init__"),
        ("sklvm.mixture", "from . import VAE", "mixture must not import __init__"),
        ("sklvm.hmm", "if TYPE_CHECKING:\n  from .outlier import x", "hmm must not import outlier"),
        ("sklvm.impute", "from sklvm.outlier import x", "impute must not import outlier"),
        ("sklvm.impute", "from sklvm.nowhere import x", "nowhere has no storey"),
        ("sklvm.nowhere", "", "give nowhere a storey"),
        ("sklvm.base", "from sklearn.utils._tags import Tags", "private scikit-learn names"),
        ("sklvm.base", "from sklearn.base import _fit_context", "private scikit-learn names"),
        ("sklvm.base", "import sklearn\nsklearn.utils._tags.Tags", "private scikit-learn names"),
        ("sklvm.vae", "def f():\n  import scipy", "must stay unloaded"),
        ("sklvm.vae", "class A:\n  async def f(self):\n    import json", "must stay unloaded"),
        ("sklvm.demo", "def f():\n  from sklvm import VAE", "must stay unloaded"),
    ],
)
def test_a_wrong_import_is_seen(module, source, reason):
    assert any(reason in line for line in complaints(module, Imports(module, source)))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sklvm.base", "from sklvm._compat import x\nfrom sklearn.base import BaseEstimator"),
        ("sklvm._compat", "from sklearn.utils._tags import Tags"),
        ("sklvm.vae", "from sklvm.mixture import GaussianMixture\nimport sklearn\nsklearn.base"),
        ("sklvm.vae", "def f():\n  import torch\n  from torch import nn"),
        ("sklvm.demo", "import sklvm\nfrom sklvm.display import x\nfrom sklvm import VAE"),
    ],
)
def test_a_right_import_is_not(module, source):
    assert list(complaints(module, Imports(module, source))) == []


# --- what an import loads ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    ["import sklvm", "from sklvm import GaussianMixture, EMFactorAnalysis, VariationalGMM"],
)
def test_heavy_packages_stay_unloaded(statement):
    code = f"import sys; {statement}; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    loaded = set(run.stdout.split())
    assert "sklvm" in loaded
    assert loaded & {"torch", "numba", "matplotlib"} == set()


@pytest.mark.parametrize("name", sklvm.__all__)
def test_every_public_name_resolves(name):
    assert getattr(sklvm, name).__name__ == name
    assert name in dir(sklvm)


def test_an_unknown_name_is_refused_clearly():
    with pytest.raises(AttributeError, match="no attribute 'Gaussian'.*GaussianMixture"):
        sklvm.Gaussian
    assert not hasattr(sklvm, "Gaussian")


# --- the files at the top ---------------------------------------------------------------------


def read_cff(text):
    """The top-level entries of a CITATION.cff as text; what is not plain YAML is refused."""
    entries, key = {}, None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if match := re.fullmatch(r"([a-z-]+):(?: (.+))?", line):
            key, value = match[1], (match[2] or "").strip()
            assert key not in entries, f"line {number}: {key} is there twice"
            entries[key] = "" if value in {"", ">-"} else value.strip('"')
        else:
            assert key and re.fullmatch(r"  \S.*", line), f"line {number} does not parse: {line!r}"
            entries[key] = f"{entries[key]}\n{line.strip()}".strip()
    return entries


def test_citation_names_this_version():
    citation = read_cff((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation.keys() >= {"cff-version", "message", "title", "authors", "version", "license"}
    assert citation["version"] == sklvm.__version__
    assert citation["authors"] == '- name: "The sklvm developers"'


def test_setup_cfg_holds_only_tool_settings():
    settings = configparser.ConfigParser()
    settings.read_string((ROOT / "setup.cfg").read_text("utf-8"))
    allowed = re.compile(r"mypy(-.*)?|coverage:\w+|codespell")
    assert [section for section in settings.sections() if not allowed.fullmatch(section)] == []


def test_what_make_installs_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    installed = ["plot", "progress", "test", "bench"]
    direct = [*project["dependencies"], *(r for e in installed for r in extras[e])]
    wanted = {re.match(r"[\w-]+", requirement)[0].lower() for requirement in direct}
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[a-z0-9-]+==[\w.]+", pin)] == []
    assert wanted - {pin.split("==")[0] for pin in pins} == set()


def test_no_file_is_large():
    folders = ("sklvm", "tests", "benchmarks", "docs", ".ci")
    files = [*ROOT.glob("*"), *(f for name in folders for f in (ROOT / name).rglob("*"))]
    assert PACKAGE / "__init__.py" in files
    assert [str(f) for f in files if f.is_file() and f.stat().st_size > 1_000_000] == []
