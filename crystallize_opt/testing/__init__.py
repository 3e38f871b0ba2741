"""The conformance suite: what every optimizer promises, as tests for pytest.

Subclass `OptimizerContract` in a test module, say how your optimizer is built, and run pytest:

    class TestMyOptimizer(OptimizerContract):
        def make_optimizer(self, space, objective, *, constraints=(), seed=0):
            return MyOptimizer(space, objective, constraints=constraints, seed=seed)

The tests follow the optimizer's `capabilities`: what it does not declare, it must refuse when it is
built. Each test's docstring is the rule that it enforces. `docs/write_an_adapter.md` is the guide.

pytest is no dependency of this package: install it yourself. Nothing imports this module.
"""

import pytest

# For readable failures; it has to come before the modules are imported.
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
