"""The conformance suite: pytest tests of everything that an optimizer promises.

Subclass `OptimizerContract` in a test module, build your optimizer in it, and run pytest:

    class TestMyOptimizer(OptimizerContract):
        def make_optimizer(self, space, objective, *, constraints=(), seed=0):
            return MyOptimizer(space, objective, constraints=constraints, seed=seed)

The tests follow the optimizer's `capabilities`: it must refuse a feature that it does not declare
when it is built. Each test's docstring states the rule that it enforces. The guide is
`docs/write_an_adapter.md`.

This package does not depend on pytest: install it yourself. No other module imports this one.
"""

import pytest

# Makes failed assertions readable; pytest requires this call before the modules are imported.
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
)

from crystallize_opt.testing._contract import OptimizerContract  # noqa: E402

__all__ = ["OptimizerContract"]
