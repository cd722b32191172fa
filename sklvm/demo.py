"""The suite at work on scikit-learn's data: outliers, a search, holes, features, pictures.

`python -m sklvm.demo` prints tables and saves pictures; nothing in them is stored beforehand.
"""

import argparse
import warnings
from collections import defaultdict
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - IterativeImputer needs it
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import pairwise_distances_argmin, roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, train_test_split
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from threadpoolctl import threadpool_limits

import sklvm

# Of 5 and 10, what held-out training rows give the higher likelihood, for both factor models.
N_LATENTS = {"breast cancer": 10, "digits": 5, "wine": 5}
SHARE_MISSING = 0.2
LOWEST = -1e300  # stands for -inf where scikit-learn wants finite scores


def main(argv=None):
    """Run the demo; `argv` are the words of the command line."""
    parser = argparse.ArgumentParser(prog="python -m sklvm.demo", description=main.__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="pictures' folder")
    parser.add_argument("--fast", action="store_true", help="tiny settings, to see that it runs")
    args = parser.parse_args(argv)
    seeds, digits, epochs = (1, (0,), 5) if args.fast else (5, (0, 2, 4, 6, 8), 1000)
    start = perf_counter()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="columns .* are constant")  # the digits' margins
        warnings.filterwarnings("ignore", message="on held-out rows")  # the tables show who wins
        warnings.filterwarnings("ignore", message="the estimate of log Z")  # features need none
        warnings.filterwarnings("ignore", ".IterativeImputer.", ConvergenceWarning)
        if args.fast:
            warnings.simplefilter("ignore", ConvergenceWarning)
        load_libraries()
        with threadpool_limits(1):  # tables this small gain nothing from more threads
            detect_anomalies(range(seeds), digits, epochs)
            choose_model(range(1, 3 if args.fast else 7))
            fill_holes(range(seeds), epochs)
            learn_features(range(1 if args.fast else 2), 20 if args.fast else 2000)
            draw_pictures(args.output, epochs)
    print(f"\nThe demo took {perf_counter() - start:.0f} s.")


# --- what is compared -------------------------------------------------------------------------


def densities(data, seed, epochs):
    """The four models for a data set: {name: estimator}."""
    q = N_LATENTS[data]
    return {
        "GaussianMixture": sklvm.GaussianMixture(3, random_state=seed),
        "VariationalGMM": sklvm.VariationalGMM(10, random_state=seed),
        "EMFactorAnalysis": sklvm.EMFactorAnalysis(q),
        "VAE": sklvm.VAE(q, max_iter=epochs, n_importance_samples=64, random_state=seed),
    }


def detectors(data, seed, epochs):
    """{name: outlier detector}"""
    ours = {
        name: sklvm.DensityOutlierDetector(model, cv=None, random_state=seed)
        for name, model in densities(data, seed, epochs).items()
    }
    peers = (IsolationForest(random_state=seed), LocalOutlierFactor(novelty=True))
    return ours | {type(peer).__name__: peer for peer in peers}


def imputers(data, seed, epochs):
    """{name: imputer}"""
    ours = {
        name: sklvm.LatentImputer(model, random_state=seed)
        for name, model in densities(data, seed, epochs).items()
    }
    peers = {
        "IterativeImputer": IterativeImputer(random_state=seed),
        "KNNImputer": KNNImputer(),
        "column mean": SimpleImputer(),
    }
    return ours | peers


# --- the five parts ---------------------------------------------------------------------------


def detect_anomalies(seeds, digits, epochs):
    """Train on normal rows only; tell the other normal rows from the abnormal ones."""
    heading("1. Outliers: fit half of the normal rows, rank the other half and the abnormal ones")
    sets = {
        "breast cancer": (load_breast_cancer(return_X_y=True), (1,), seeds),  # 1 is benign
        "digits": (load_digits(return_X_y=True), digits, seeds[:3]),
    }
    results = defaultdict(list)
    for data, ((X, y), normals, seeds) in sets.items():
        for seed in seeds:
            with piece(f"{data}, split {seed + 1} of {len(seeds)}"):
                splits = [one_class(X, y, normal, seed) for normal in normals]
                for name, detector in detectors(data, seed, epochs).items():
                    aurocs = [auroc(detector, *split) for split in splits]
                    results[name, data].append(np.mean(aurocs))
    print_table("AUROC (higher is better)", results)
    print(
        f"  Benign is normal; of the digits {digits} each in turn, which makes one mean per split."
    )


def one_class(X, y, normal, seed):
    """Half of the normal rows, all other rows, and which of those are normal."""
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(y == normal))
    train = rows[: len(rows) // 2]
    test = np.setdiff1d(np.arange(len(y)), train)
    return X[train], X[test], y[test] == normal


def auroc(detector, train, test, is_normal):
    """Probability that a normal row scores above an abnormal one."""
    model = make_pipeline(StandardScaler(), detector).fit(train)
    return roc_auc_score(is_normal, np.maximum(model.score_samples(test), LOWEST))


def choose_model(n_components):
    """The number of components and the covariance structure by held-out likelihood."""
    heading("2. Model choice: Pipeline(StandardScaler, GaussianMixture) in GridSearchCV, on wine")
    X, _ = load_wine(return_X_y=True)
    model = make_pipeline(StandardScaler(), sklvm.GaussianMixture(random_state=0))
    types = ["full", "tied", "diag", "spherical"]
    grid = {"gaussianmixture__covariance_type": types}
    grid |= {"gaussianmixture__n_components": list(n_components)}
    with piece(f"{len(types) * len(n_components)} candidates, 5 folds each"):
        folds = KFold(5, shuffle=True, random_state=0)
        search = GridSearchCV(model, grid, cv=folds).fit(X)
    print_search(search)


def print_search(search):
    """The held-out likelihood of each candidate, and the one that won."""
    table = defaultdict(list)
    for params, nats in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"]):
        covariance_type, K = params.values()
        table[covariance_type, f"K={K}"].append(nats)
    print_table("held-out nats per row of the standardised columns", table)
    chosen = ", ".join(f"{k.split('__')[1]}={v}" for k, v in search.best_params_.items())
    print(f"  chosen: {chosen}, with {search.best_score_:.2f} nats per row in cross-validation")


def fill_holes(seeds, epochs):
    """Hide a fifth of the entries, fit what is left, and compare what is filled in."""
    heading(f"3. Holes: {SHARE_MISSING:.0%} of the entries removed at random, then filled in")
    results = defaultdict(list)
    sets = {"breast cancer": (load_breast_cancer(), seeds[:3]), "wine": (load_wine(), seeds)}
    for data, (bunch, seeds) in sets.items():
        X = bunch.data
        for seed in seeds:
            holes = np.random.default_rng(seed).random(X.shape) < SHARE_MISSING
            with piece(f"{data}, holes {seed + 1} of {len(seeds)}"):
                for name, imputer in imputers(data, seed, epochs).items():
                    results[name, data].append(rmse(imputer, X, holes))
    print_table("RMSE in standard deviations of the column (lower is better)", results)


def rmse(imputer, X, holes):
    """Root mean squared error over the holes, in standard deviations of what is seen."""
    model = make_pipeline(StandardScaler(), imputer)
    filled = model.fit_transform(np.where(holes, np.nan, X))
    return np.sqrt(np.mean((filled - model[0].transform(X))[holes] ** 2))


def learn_features(seeds, updates):
    """A classifier of digits on the pixels, and on the hidden bits of a Boltzmann machine."""
    heading(
        "4. Features: Pipeline(MinMaxScaler, RBM, LogisticRegression) in GridSearchCV, on digits"
    )
    X, y = load_digits(return_X_y=True)
    settings = {"learning_rate_init": 0.1, "n_steps": 1, "n_updates": updates, "random_state": 0}
    machine = sklvm.RBM(200, visible="gaussian", n_annealing_steps=10, **settings)
    results = defaultdict(list)
    for name, steps in {"pixels": [], "hidden bits of RBM(200)": [machine]}.items():
        with piece(f"{name}, {len(seeds)} halves"):
            for seed in seeds:
                results[name, "digits"].append(accuracy(steps, X, y, seed))
    print_table("accuracy on the other half (higher is better)", results)


def accuracy(steps, X, y, seed):
    """Share of right answers on one half after a search on the other."""
    train, test, y_train, y_test = train_test_split(
        X, y, test_size=0.5, stratify=y, random_state=seed
    )
    classifier = LogisticRegression(max_iter=1000)
    with TemporaryDirectory() as memory:  # each fold trains one machine for all candidates
        model = make_pipeline(MinMaxScaler(), *steps, classifier, memory=memory)
        search = GridSearchCV(model, {"logisticregression__C": [0.1, 1, 10]}, cv=3)
        return search.fit(train, y_train).score(test, y_test)


def draw_pictures(folder, epochs):
    """Digits drawn by a VAE, a plane of digits, and how the four models converge."""
    heading("5. Pictures")
    if find_spec("matplotlib") is None:
        print("none without matplotlib: pip install sklvm[plot]")
        return
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "digits_drawn.png": draw_digits,
        "digits_latent_space.png": draw_latent_space,
        "convergence.png": draw_convergence,
    }
    for name, draw in pictures.items():
        with piece(name):
            draw(epochs).savefig(folder / name, dpi=150)
        print(f"  saved {(folder / name).resolve()}")


def draw_digits(epochs, n=12):
    """Digits that a VAE draws, and below each the most similar real one: a Figure."""
    X, _ = load_digits(return_X_y=True)
    model = sklvm.VAE(16, max_iter=epochs, random_state=0).fit(X)
    drawn, Z = model.sample(n, random_state=0)
    expected = model.inverse_transform(Z)
    nearest = X[pairwise_distances_argmin(expected, X)]
    rows = {"drawn": drawn, "its mean\nE[x | z]": expected, "nearest\nreal": nearest}
    figure = new_figure(n * 0.75, 2.9)
    axes = figure.subplots(len(rows), n)
    for line, (name, images) in zip(axes, rows.items()):
        line[0].set_ylabel(name, fontsize="small")
        for ax, image in zip(line, images):
            ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
            ax.set(xticks=[], yticks=[])
    figure.suptitle("Digits drawn from a VAE with 16 latents; real ones below to compare")
    return figure


def draw_latent_space(epochs):
    """All digits in the plane of a VAE's two latents, coloured by what they are: a Figure."""
    X, y = load_digits(return_X_y=True)
    vae = sklvm.VAE(2, max_iter=epochs, random_state=0)
    model = make_pipeline(VarianceThreshold(1.0), vae).fit(X)  # without the pixels hardly ever used
    figure = new_figure(7, 5.5)
    display = sklvm.LatentSpaceDisplay.from_estimator(model, X, y, ax=figure.subplots())
    display.ax_.set_title("Digits in the two latents of a VAE, which saw no labels")
    return figure


def draw_convergence(epochs):
    """The objective of each model against the iteration, on breast cancer: a Figure."""
    X = StandardScaler().fit_transform(load_breast_cancer().data)
    figure = new_figure(12, 3.4)
    figure.suptitle("Convergence on breast cancer, standardised; VAE: of the rows that train")
    models = densities("breast cancer", 0, epochs)
    for ax, model in zip(figure.subplots(1, len(models)), models.values()):
        sklvm.ConvergenceDisplay.from_estimator(model.fit(X), ax=ax)
    return figure


def new_figure(width, height):
    """A figure without a window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


# --- printing ---------------------------------------------------------------------------------


def load_libraries():
    """Load torch and the compiled kernels, so that they do not count as somebody's fit."""
    with piece("loading torch and compiling numba's kernels (once per installation)"):
        holes = np.random.default_rng(0).normal(size=(30, 8))
        holes[::3, 0] = np.nan
        for model in densities("wine", 0, 1).values():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(holes)


def heading(title):
    """A line that says what comes."""
    print(f"\n{title}", flush=True)


@contextmanager
def piece(title):
    """Say what starts, and when it is done how long it took."""
    print(f"  {title} ...", end=" ", flush=True)
    start = perf_counter()
    yield
    print(f"{perf_counter() - start:.1f} s", flush=True)


def print_table(title, results):
    """{(row, column): numbers} as means, with standard deviations where there are several."""
    rows, columns = (list(dict.fromkeys(names)) for names in zip(*results))
    cells = {key: cell(numbers) for key, numbers in results.items()}
    first, width = max(map(len, rows)), 3 + max(map(len, [*columns, *cells.values()]))
    print(f"  {title}")
    print("  " + " " * first + "".join(f"{column:>{width}}" for column in columns))
    for row in rows:
        line = "".join(f"{cells[row, column]:>{width}}" for column in columns)
        print(f"  {row:<{first}}{line}")


def cell(numbers):
    """Mean, and the spread of several."""
    spread = f" ± {np.std(numbers, ddof=1):.3f}" if len(numbers) > 1 else ""
    return f"{np.mean(numbers):.3f}{spread}"


if __name__ == "__main__":
    main()
