"""What the tests of SMACOptimizer share: a search, and SMAC's own loop written by hand."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ConfigSpace import (
    AndConjunction,
    CategoricalHyperparameter,
    Configuration,
    ConfigurationSpace,
    ForbiddenGreaterThanRelation,
    InCondition,
    OrdinalHyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)
from ConfigSpace import Constant as NativeConstant
from ConfigSpace.hyperparameters import Hyperparameter
from smac import Scenario
from smac.acquisition.maximizer import LocalAndSortedRandomSearch, LocalSearch
from smac.facade.abstract_facade import AbstractFacade
from smac.main.exceptions import ConfigurationSpaceExhaustedException
from smac.runhistory import StatusType, TrialValue

from crystallize_opt import (
    Categorical,
    Constant,
    Float,
    Integer,
    Objective,
    Observation,
    Ordinal,
    SearchSpace,
    Status,
    Treatment,
)
from crystallize_opt.adapters import SMACOptimizer
from crystallize_opt.space.parameter import Parameter
from tests.adapters.parity import any_loss

Facade = type[AbstractFacade]
ONLY_THE_INITIAL_DESIGN = -1

# For tests in which it does not matter how good a suggestion is: SMAC's own thousands of candidates
# take most of the time of an ask.
FEW_CANDIDATES: dict[str, Any] = {
    "acquisition_maximizer": {"challengers": 50, "local_search_iterations": 1}
}

LOSS = Objective("loss", "minimize")
SQUARE = {"x": (0.0, 1.0), "y": (0.0, 1.0)}
MIXED = SearchSpace(
    {
        "x": (-5.0, 5.0),
        "rate": Float(1e-5, 1.0, log=True),
        "n": (1, 20),
        "grid": Float(0.0, 0.3, step=0.1),
        "kind": Categorical(["a", None, True, 1]),
        "size": Ordinal(["s", "m", "l"]),
        "momentum": Float(0.0, 1.0).when(kind="a"),
        "fixed": Constant((1, 2)),
    }
)


def fail(optimizer: SMACOptimizer, status: Status = Status.FAILED) -> Treatment:
    (treatment,) = optimizer.ask()
    optimizer.tell(Observation(treatment, status=status, error="boom"))
    return treatment


def told(optimizer: SMACOptimizer) -> list[tuple[Any, StatusType]]:
    """What SMAC knows of its trials: cost and status."""
    return [(value.cost, value.status) for value in optimizer.facade.runhistory.values()]


def rows_of_the_model(optimizer: SMACOptimizer) -> int:
    vectors, costs = optimizer.facade._runhistory_encoder.transform(budget_subset=[None])
    assert len(vectors) == len(costs)
    return len(vectors)


# A loop written by hand ------------------------------------------------------------------------


class SortedLocalSearch(LocalSearch):
    """The fix of the order that depends on PYTHONHASHSEED; all else is SMAC's own."""

    def _get_init_points_from_previous_configs(self, *args: Any, **kwargs: Any) -> Any:
        found = super()._get_init_points_from_previous_configs(*args, **kwargs)
        return sorted(found, key=lambda configuration: configuration.get_array().tobytes())


class NativeSpace:
    """A ConfigurationSpace as one would write it, and the points its configurations stand for."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.configspace = ConfigurationSpace()
        needed = {name: self._needed(name) for name in space}
        self._all = {name: self._hyperparameter(name, each) for name, each in space.items()}
        self.configspace.add([h for n, h in self._all.items() if all(needed[n].values())])
        for name, parents in needed.items():
            conditions = [
                InCondition(self._all[name], self._all[parent], sorted(values))
                for parent, values in parents.items()
            ]
            if conditions and all(parents.values()):
                one = len(conditions) == 1
                self.configspace.add(conditions[0] if one else AndConjunction(*conditions))
        for constraint in space.constraints:
            smaller, larger = sorted(constraint.coefficients, key=constraint.coefficients.get)[::-1]  # type: ignore[arg-type]
            self.configspace.add(
                ForbiddenGreaterThanRelation(self._all[smaller], self._all[larger])
            )

    def _needed(self, name: str) -> dict[str, set[Any]]:
        # ConfigSpace needs the conditions of the parents, too, where a child has several parents.
        several = any(len(each.conditions) > 1 for each in self.space.values())
        found: dict[str, set[Any]] = {}
        for condition in self.space[name].conditions:
            parent = condition.parent
            inherited = self._needed(parent) if several else {}
            if _is_one_value(self.space[parent]):  # SMAC's initial design mistakes its value
                inherited = self._needed(parent)
            else:
                values = {self._stored(parent, value) for value in condition.values}
                inherited = {parent: values} | inherited
            for other, allowed in inherited.items():
                found[other] = found.get(other, allowed) & allowed
        return found

    @staticmethod
    def _hyperparameter(name: str, p: Parameter) -> Hyperparameter[Any, Any]:
        default = p.default if p.has_default else None
        match p:
            case Categorical() | Ordinal():
                labels = [f"choice {i}" for i in range(len(p.choices))]
                label = labels[p.index(default) if p.has_default else 0]
                if isinstance(p, Ordinal):
                    return OrdinalHyperparameter(name, labels, label)
                return CategoricalHyperparameter(name, labels, label)
            case Constant() | Parameter(size=1):
                return NativeConstant(name, "the only one")
            case Float(step=None):
                return UniformFloatHyperparameter(name, p.low, p.high, default, p.log)
            case Integer(step=None):
                return UniformIntegerHyperparameter(name, p.low, p.high, default, p.log)
            case Float() | Integer():
                values = list(p.values())
                position = None if default is None else values.index(p.value_at(_index(p, default)))
                return UniformIntegerHyperparameter(name, 0, len(values) - 1, position)
        raise AssertionError(p)

    def _stored(self, name: str, value: Any) -> Any:
        match p := self.space[name]:
            case Categorical() | Ordinal():
                return f"choice {p.index(value)}"
            case Parameter(size=1):
                return "the only one"
            case Float(step=None) | Integer(step=None):
                return value
            case Float() | Integer():
                return _index(p, value)
        raise AssertionError(p)

    def point(self, configuration: Configuration) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, p in self.space.items():
            if name not in configuration:
                continue
            stored = configuration[name]
            match p:
                case Categorical() | Ordinal():
                    found[name] = p.choices[int(str(stored).removeprefix("choice "))]
                case Parameter(size=1):
                    found[name] = next(p.values())
                case Float(step=None) | Integer(step=None):
                    # ConfigSpace rounds to 13 decimals, bounds too, and so leaves the range.
                    found[name] = min(max(stored, p.low), p.high)
                case Float() | Integer():
                    found[name] = list(p.values())[stored]
        return found


def _is_one_value(p: Parameter) -> bool:
    return p.size == 1 and not isinstance(p, (Categorical, Ordinal))


def _index(p: Float | Integer, value: float) -> int:
    return round((value - p.low) / (p.step or 1))


def native_suggestions(
    space: SearchSpace,
    kind: Facade,
    seed: int,
    trials: int,
    *,
    n_trials: int,
    sign: int = 1,
    retrain_after: int | None = 1,
    options: Mapping[str, Mapping[str, Any]] = {},
    pending: int = 1,
) -> list[dict[str, Any]]:
    """The suggestions of SMAC's own facade, with all the files that it writes."""
    native = NativeSpace(space)
    suggested: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(
            native.configspace,
            deterministic=True,
            n_trials=n_trials,
            seed=seed,
            output_directory=Path(folder),
        )
        components = {
            name: getattr(kind, f"get_{name}")(scenario, **keywords)
            for name, keywords in options.items()
        }
        if retrain_after is not None:
            components["config_selector"] = kind.get_config_selector(
                scenario, retrain_after=retrain_after
            )
        facade = kind(scenario, None, logging_level=False, overwrite=True, **components)
        if trials == ONLY_THE_INITIAL_DESIGN:
            trials = len(facade.intensifier.config_selector._initial_design_configs)
        maximizer = facade._acquisition_maximizer
        if isinstance(maximizer, LocalAndSortedRandomSearch):
            maximizer._local_search.__class__ = SortedLocalSearch
        while len(suggested) < trials:
            try:
                with warnings.catch_warnings():
                    # Of statistics for its debug log.
                    warnings.simplefilter("ignore", RuntimeWarning)
                    infos = [facade.ask() for _ in range(pending)]
            except (ConfigurationSpaceExhaustedException, StopIteration):
                break
            for info in infos:
                suggested.append(native.point(info.config))
                facade.tell(info, TrialValue(cost=sign * any_loss(suggested[-1])))
    return suggested
