"""Converts a search space to Optuna's distributions, and points to and from a study."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from crystallize_opt.errors import UnsupportedSpaceError
from crystallize_opt.space.choices import Categorical, Constant, Ordinal
from crystallize_opt.space.codes import ChoiceIndex, Code, OnlyValue
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.space.space import SearchSpace


class OptunaSpace:
    """A `SearchSpace` in the form that Optuna searches.

    Args:
        space: The search space.

    Attributes:
        distributions: The distribution of each parameter that Optuna searches.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self.distributions: dict[str, BaseDistribution] = {}
        # The parameters whose values in the study differ from the user's values.
        self._codes: dict[str, Code] = {}
        for name, parameter in space.items():
            if isinstance(parameter, Constant):
                self._codes[name] = OnlyValue(parameter)
                continue
            self.distributions[name] = distribution_of(parameter)
            is_choice = isinstance(parameter, (Categorical, Ordinal))
            if is_choice and not (isinstance(parameter, Categorical) and fits_optuna(parameter)):
                self._codes[name] = ChoiceIndex(parameter)

    def is_coded(self, name: str) -> bool:
        """Whether the study stores something other than the values of a parameter."""
        return name in self._codes

    def decode(self, stored: dict[str, Any]) -> dict[str, Any]:
        """Return the point that a trial stores, for a space without conditions."""
        if not self._codes:
            return stored
        return {name: self._decode_one(name, stored.get(name)) for name in self._space.names}

    def active(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return the active parameters of a point that also has inactive ones."""
        chosen: dict[str, Any] = {}
        for name in self._space.names:
            if self._space.is_active(name, chosen):
                chosen[name] = point[name]
        return chosen

    @property
    def inactive_values(self) -> dict[str, Any]:
        """What the study stores for parameters that a given point does not have: their middle."""
        return {name: self._middle(self._space[name], name) for name in self.distributions}

    def _middle(self, parameter: Parameter, name: str) -> Any:
        value = parameter.default if parameter.has_default else parameter.sample(_Middle())
        return self._codes[name].encode(value) if name in self._codes else value

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """Suggest the active parameters of a space with conditions, and return the point."""
        chosen: dict[str, Any] = {}
        for name in self._space.names:
            if self._space.is_active(name, chosen):
                distribution = self.distributions.get(name)
                stored = distribution and _suggest_one(trial, name, distribution)
                chosen[name] = self._decode_one(name, stored)
        return chosen

    def encode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that the study stores for some or all parameters of a point."""
        return {
            name: self._codes[name].encode(value) if name in self._codes else value
            for name, value in params.items()
            if name in self.distributions
        }

    @contextmanager
    def taking(self, stored: Mapping[str, Any]) -> Iterator[None]:
        """Keep Optuna from warning that enqueued values are out of range, which they are not.

        For Optuna, a value is on a grid if `(value - low) / step` is whole up to 1e-8. No float is,
        where the grid is far from zero: see `takes_grid`.

        Args:
            stored: The values, as the study stores them.
        """
        with ExitStack() as stack:
            if not all(_contains(self.distributions[name], v) for name, v in stored.items()):
                stack.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", "Fixed parameter .* is out of range")
            yield

    def _decode_one(self, name: str, stored: Any) -> Any:
        return self._codes[name].decode(stored) if name in self._codes else stored


class _Middle:
    """A source of random numbers that always draws the middle."""

    def random(self) -> float:
        return 0.5


def distribution_of(parameter: Parameter, choices: Any = None) -> BaseDistribution:
    """Return Optuna's counterpart of a parameter.

    Args:
        parameter: The parameter.
        choices: What the study stores instead of the choices. Default: the choices themselves if
            Optuna can store them, otherwise their indices.

    Raises:
        UnsupportedSpaceError: Optuna has no counterpart.
    """
    match parameter:
        case Float():
            return FloatDistribution(
                parameter.low, parameter.high, log=parameter.log, step=parameter.step
            )
        case Integer():
            return IntDistribution(
                parameter.low, parameter.high, log=parameter.log, step=parameter.step or 1
            )
        case Categorical() | Ordinal() if choices is not None:
            return CategoricalDistribution(choices)
        case Ordinal():
            return IntDistribution(0, len(parameter.choices) - 1)
        case Categorical():
            fits = fits_optuna(parameter)
            return CategoricalDistribution(
                parameter.choices if fits else range(len(parameter.choices))
            )
    raise UnsupportedSpaceError(f"Optuna has no counterpart of {parameter!r}.")


def takes_grid(parameter: Float) -> bool:
    """Whether Optuna knows every value of a grid: not those of Float(1e6, 1e6 + 1, step=0.001).

    Optuna subtracts and divides in floats, and allows an error of 1e-8 of a step.
    """
    if parameter.step is None:
        return True
    spacing = math.ulp(max(abs(parameter.low), abs(parameter.high)))
    return spacing / parameter.step + math.ulp(parameter.size) < _TOLERANCE


_TOLERANCE = 1e-8


def _contains(distribution: BaseDistribution, stored: Any) -> bool:
    return distribution._contains(distribution.to_internal_repr(stored))  # noqa: SLF001


def fits_optuna(parameter: Categorical | Ordinal) -> bool:
    """Whether Optuna can store the choices themselves: JSON values, no two of which are equal."""
    choices = parameter.choices
    storable = all(choice is None or type(choice) in (bool, int, float, str) for choice in choices)
    return storable and len(set(choices)) == len(choices) and all(c == c for c in choices)


def _suggest_one(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case FloatDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_float(name, low, high, step=step, log=log)
        case IntDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_int(name, low, high, step=step, log=log)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)
    raise AssertionError(distribution)
