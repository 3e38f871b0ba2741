"""What a sampler of Optuna cannot take, refused when the optimizer is built.

Optuna notices these things in the middle of a study: by an error out of `ask` that has nothing to
do with the parameter, by taking all memory, or not at all.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from optuna.samplers import BaseSampler, BruteForceSampler, GPSampler, GridSampler

from crystallize_opt.adapters.optuna.samplers import chain_of
from crystallize_opt.adapters.optuna.space import OptunaSpace
from crystallize_opt.errors import InvalidParametersError, UnsupportedSpaceError, UsageError
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Parameter, canonical_value
from crystallize_opt.space.space import SearchSpace

_LARGEST_FLOAT = sys.float_info.max / 4

# TPE computes the difference of two probabilities, an integer plus and minus a half, in floats: it
# becomes zero near 2**51.
_LARGEST_INTEGER = 2**48

# GPSampler makes arrays of all values of a stepped parameter at every ask (10**7 values: 0.4 s and
# 460 MB), BruteForceSampler an object for each (10**6 values: 0.3 s).
_MOST_VALUES: dict[type[BaseSampler], int] = {GPSampler: 10**7, BruteForceSampler: 10**6}


def refuse_space(sampler: BaseSampler, space: SearchSpace, optuna_space: OptunaSpace) -> None:
    """Refuse a space that the sampler, or a sampler that it wraps, cannot search.

    Raises:
        UnsupportedSpaceError: The message names the parameter, and who can take it.
        UsageError: The sampler carries values that are not in the space.
    """
    for name, parameter in space.items():
        if name in optuna_space.distributions:
            _refuse_range(name, parameter)
            for each in chain_of(sampler):
                _refuse_many_values(each, name, parameter)
    fixed: set[str] = set()
    for each in chain_of(sampler):
        if isinstance(given := getattr(each, "_fixed_params", None), dict):
            _check_values(each, {name: [given[name]] for name in given}, space, optuna_space)
            fixed |= set(given)
        if isinstance(each, GridSampler):
            grid = each._search_space  # noqa: SLF001  (Optuna shows the grid nowhere)
            _check_values(each, grid, space, optuna_space)
            if missing := [n for n in optuna_space.distributions if n not in {*grid, *fixed}]:
                raise UsageError(
                    f"{_name(each)} has values for {sorted(grid)}, but the space also has "
                    f"{missing[0]!r}. Give it a list of values for each parameter."
                )


def _refuse_range(name: str, parameter: Parameter) -> None:
    if isinstance(parameter, Float):
        far = max(abs(parameter.low), abs(parameter.high)) > _LARGEST_FLOAT
        if far or 0 < parameter.high - parameter.low < sys.float_info.min:
            raise UnsupportedSpaceError(
                f"OptunaOptimizer cannot take {name!r}, {parameter!r}: Optuna computes with the "
                f"width and the sum of the bounds, which {'overflow' if far else 'underflow'}. "
                f"Make the range {'narrower' if far else 'wider'}. RandomOptimizer, GridOptimizer, "
                "AxOptimizer and SMACOptimizer can take it."
            )
    elif isinstance(parameter, Integer) and (
        max(abs(parameter.low), abs(parameter.high)) >= _LARGEST_INTEGER
    ):
        raise UnsupportedSpaceError(
            f"OptunaOptimizer cannot take {name!r}, {parameter!r}: Optuna computes with integers "
            "in floats, so it takes those below 2**48. RandomOptimizer, GridOptimizer and "
            "AxOptimizer can take it. (A seed is better drawn from a smaller range.)"
        )


def _refuse_many_values(sampler: BaseSampler, name: str, parameter: Parameter) -> None:
    kind = next((kind for kind in _MOST_VALUES if isinstance(sampler, kind)), None)
    if kind is None:
        return
    continuous = parameter.size == math.inf
    if continuous and kind is BruteForceSampler:
        raise UnsupportedSpaceError(
            f"{_name(sampler)} cannot take {name!r}, {parameter!r}: it has no finite set of "
            "values. Give it a step, or use another sampler."
        )
    if not continuous and parameter.size > _MOST_VALUES[kind]:
        raise UnsupportedSpaceError(
            f"{_name(sampler)} cannot take {name!r}, {parameter!r}: it goes through all values of "
            f"a parameter, at most {_MOST_VALUES[kind]:,}, and these are {parameter.size:,}. Give "
            "it a larger step. OptunaOptimizer with TPESampler, CmaEsSampler or NSGAIISampler, "
            "RandomOptimizer, AxOptimizer and SMACOptimizer can take it."
        )


def _check_values(
    sampler: BaseSampler,
    values: dict[str, list[Any]],
    space: SearchSpace,
    optuna_space: OptunaSpace,
) -> None:
    """Check that the values that a sampler carries are values of the space."""
    for name, given in values.items():
        if name not in optuna_space.distributions:
            raise UsageError(
                f"{_name(sampler)} has a value for {name!r}, which is not searched. The space has: "
                f"{', '.join(map(repr, optuna_space.distributions))}."
            )
        for value in given:
            if optuna_space.is_coded(name):
                _check_index(sampler, name, space[name], value)
                continue
            try:
                canonical_value(name, space[name], value)
            except InvalidParametersError as error:
                raise UsageError(
                    f"{_name(sampler)} has a value that is not in the space. {error}"
                ) from None


def _check_index(sampler: BaseSampler, name: str, parameter: Parameter, value: Any) -> None:
    if type(value) is not int or not 0 <= value < parameter.size:
        raise UsageError(
            f"{_name(sampler)} has the value {value!r} for {name!r}, {parameter!r}. The study "
            f"stores these choices as their index: give one from 0 to {int(parameter.size) - 1}."
        )


def _name(sampler: BaseSampler) -> str:
    return type(sampler).__name__
