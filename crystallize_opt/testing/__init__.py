"""The conformance suite: pytest tests for every rule that an optimizer must keep.

To test an optimizer, subclass `OptimizerContract` in a test module and run pytest:

    class TestMyOptimizer(OptimizerContract):
        def make_optimizer(self, space, objective, *, constraints=(), seed=0):
            return MyOptimizer(space, objective, constraints=constraints, seed=seed)

The tests read the optimizer's `capabilities`: a feature that it does not declare must be refused
when the optimizer is built. Each test's docstring states the rule that the test enforces. The guide
is `docs/write_an_adapter.md`.

Install pytest yourself, because crystallize-opt does not depend on it.
"""

import pytest

# pytest shows the values in a failed assertion only if this call comes before the imports.
pytest.register_assert_rewrite(
    "crystallize_opt.testing._base",
    "crystallize_opt.testing._enqueued",
    "crystallize_opt.testing._failures",
    "crystallize_opt.testing._finite",
    "crystallize_opt.testing._repeats",
    "crystallize_opt.testing._results",
    "crystallize_opt.testing._side_effects",
    "crystallize_opt.testing._tells",
    "crystallize_opt.testing._values",
    "crystallize_opt.testing._warm_start",
)

from crystallize_opt.testing._contract import OptimizerContract  # noqa: E402

__all__ = ["OptimizerContract"]
