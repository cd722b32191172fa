"""What watches a fit: `verbose` prints, and scikit-learn's callbacks where it has them (1.9)."""

import numpy as np

from ._compat import CallbackSupportMixin
from .inference.history import Run


class WatchedFit(CallbackSupportMixin):
    """Turns `verbose`, `verbose_interval` and `set_callbacks` into one callback for the drivers."""

    def _progress(self, data):
        """callback(iteration, state, objective) -> True to stop; or None where nobody watches."""
        watchers = [self._printer()] if self.verbose else []
        if getattr(self, "_skl_callbacks", None):
            watchers.append(self._teller(data))
        if not watchers:
            return None

        def callback(*step):
            return any([watcher(*step) for watcher in watchers])

        return callback

    def _most_iterations(self, data):
        return self.max_iter

    def _printer(self):
        def report(iteration, state, objective):
            if iteration % self.verbose_interval == 0:
                print(f"{type(self).__name__} iteration {iteration}: {objective:.6f} nats per row")

        return report

    def _tell_end(self, data):
        """Close the fit for scikit-learn's callbacks, where any were told of it."""
        if hasattr(self, "_callback_fit_ctx"):
            self._callback_fit_ctx.call_on_fit_task_end(estimator=self, X=data.all_columns)

    def _teller(self, data):
        """Tells scikit-learn's callbacks of each iteration, with a fitted copy on demand."""
        fit = self._init_callback_context(max_subtasks=self._most_iterations(data))
        fit.call_on_fit_task_begin(estimator=self, X=data.all_columns)

        def report(iteration, state, objective):
            task = fit.subcontext(task_name="iteration")
            task.call_on_fit_task_begin(estimator=self, X=data.all_columns)
            run = Run(state, np.array([objective]), False, iteration)
            return task.call_on_fit_task_end(
                estimator=self,
                X=data.all_columns,
                reconstruction_attributes=lambda: self._fitted_attributes(run, data),
            )

        return report
