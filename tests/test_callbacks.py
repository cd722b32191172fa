"""Watching a fit: verbose prints, scikit-learn's callbacks, early stops."""

import numpy as np
import pytest
from sklearn.callback import ProgressBar

from sklvm import EMFactorAnalysis, GaussianMixture

X = np.random.default_rng(0).normal(size=(200, 4))


class LikelihoodMonitor:
    """A callback that scores the fitted copy of every iteration and stops after `patience`."""

    def __init__(self, patience):
        self.patience = patience
        self.scores = []
        self.began = self.ended = 0

    def setup(self, estimator, context):
        self.began += 1

    def teardown(self, estimator, context):
        self.ended += 1

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        if fitted_estimator is not None:
            self.scores.append(fitted_estimator.score(X))
            return len(self.scores) >= self.patience
        return False


@pytest.mark.parametrize(
    "model",
    [
        GaussianMixture(3, covariance_type="tied", covariance_prior=0.0, random_state=0),
        EMFactorAnalysis(1),
    ],
)
def test_a_callback_sees_a_usable_fitted_copy_and_can_stop_the_fit(model):
    monitor = LikelihoodMonitor(patience=4)
    model.set_callbacks(monitor).fit(X)
    assert len(monitor.scores) == 4
    assert model.n_iter_ == 4
    assert model.score(X) == pytest.approx(monitor.scores[-1], abs=1e-9)
    assert (np.diff(monitor.scores) > -1e-9).all()
    assert monitor.began == monitor.ended == 1


def test_a_callback_is_given_the_columns_of_the_user():
    monitor = LikelihoodMonitor(patience=2)
    model = GaussianMixture(2, random_state=0).set_callbacks(monitor)
    with pytest.warns(UserWarning, match="constant"):
        model.fit(np.column_stack([X[:, :2], np.full(len(X), 7.0), X[:, 2:]]))
    assert len(monitor.scores) == 2


def test_the_progress_bar_of_scikit_learn_runs():
    model = GaussianMixture(2, random_state=0).set_callbacks(ProgressBar())
    assert model.fit(X).converged_


def test_verbose_prints_the_objective_at_its_interval(capsys):
    model = GaussianMixture(3, random_state=0, verbose=1, verbose_interval=5).fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == model.n_iter_ // 5
    assert lines[0] == f"GaussianMixture iteration 5: {model.history_[5]:.6f} nats per row"
