"""Numeric parameters: `Float` and `Integer`."""

from __future__ import annotations

import dataclasses
import math
import operator
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

from crystallize_opt.errors import InvalidParametersError, SpaceError
from crystallize_opt.space.parameter import (
    NO_DEFAULT,
    Condition,
    DescribedParameter,
    Parameter,
    RandomSource,
    position_of,
    real_number,
    set_default,
    set_fields,
)

# The caller's decimal context may round to any number of digits. 700 digits hold every sum and
# difference of two floats.
_EXACT = Context(prec=700, traps=[])


@dataclass(frozen=True, eq=False, repr=False)
class Float(DescribedParameter):
    """A real number in `[low, high]`.

    Args:
        low: The lowest value, finite.
        high: The highest value, finite, at least `low`.
        log: Search on a logarithmic scale; needs `low > 0`.
        step: Allow only `low`, `low + step`, …, `high`. The step must divide the range, and cannot
            be combined with `log`.
        default: The value used without a search; must lie in the range.
        fidelity: Whether this is the fidelity of a trial: how much of the full effort it spends,
            such as the share of the data. The optimizer raises it from `low`, which is above 0, to
            `high` for the trials that do well. It has neither `log` nor `step` nor conditions.

    Raises:
        SpaceError: The range is not well defined.
        InvalidParametersError: The default is not in the range.

    Example:
        >>> Float(1e-4, 1e2, log=True)
        Float(0.0001, 100.0, log=True)
        >>> list(Float(0, 0.3, step=0.1).values())
        [0.0, 0.1, 0.2, 0.3]
    """

    low: float
    high: float
    log: bool = dataclasses.field(default=False, kw_only=True)
    step: float | None = dataclasses.field(default=None, kw_only=True)
    default: Any = dataclasses.field(default=NO_DEFAULT, kw_only=True)
    fidelity: bool = dataclasses.field(default=False, kw_only=True)
    conditions: tuple[Condition, ...] = dataclasses.field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        set_fields(self, low=_float(self.low, "low", self), high=_float(self.high, "high", self))
        if self.step is not None:
            set_fields(self, step=_float(self.step, "step", self))
        _check_range(self.low, self.high, self.step, log=self.log, kind="Float")
        _check_fidelity(self)
        set_default(self)

    @property
    def size(self) -> float:
        if self.low == self.high:
            return 1
        return math.inf if self.step is None else self.index(self.high) + 1

    def value_at(self, index: int) -> float:
        """Return the value at an index on the grid of `step`: 0.3, not 0.30000000000000004."""
        if self.step is None:
            return self.low
        return float(_EXACT.fma(_decimal(self.step), index, _decimal(self.low)))

    def index(self, value: float) -> int:
        """Return the index of the grid value that is nearest to `value`."""
        if self.step is None:
            return 0
        above_low = _EXACT.subtract(_decimal(value), _decimal(self.low))
        return round(_EXACT.divide(above_low, _decimal(self.step)))

    def identity(self, value: float) -> float:
        # Backends compute low + i * step in floats, so the last digit may vary for a point.
        return value if self.step is None else self.index(value)

    @property
    def values_are_identities(self) -> bool:
        return self.step is None

    def values(self) -> Iterator[float]:
        return (self.value_at(index) for index in range(int(self.size)))

    def sample(self, rng: RandomSource) -> float:
        if self.step is not None or self.low == self.high:
            return self.value_at(position_of(rng, int(self.size)))
        u = float(rng.random())
        if self.log:
            value = math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))
        else:
            # In low + u * (high - low), the difference would overflow for huge ranges.
            value = self.low * (1.0 - u) + self.high * u
        return min(max(value, self.low), self.high)

    def canonical(self, value: Any) -> float:
        number = real_number(value)
        if number is not None and self.step is not None and number - number == 0:
            return self._on_grid(float(number), value)
        if number is None or not self.low <= number <= self.high:
            raise InvalidParametersError(f"{value!r} is not in {self!r}.")
        return float(number)

    def _on_grid(self, number: float, value: Any) -> float:
        step = self.step or 0.0
        if not self.low - step <= number <= self.high + step:
            raise InvalidParametersError(f"{value!r} is not in {self!r}.")
        nearest = self.value_at(self.index(number))
        off_grid = abs(number - nearest)
        # Backends compute low + i * step in floats. Keep their value, do not round it.
        rounding = min(4 * math.ulp(max(abs(self.low), abs(self.high))), step / 4)
        if off_grid <= rounding and self.low <= number <= self.high:
            return number
        # Move other values to the grid: a table may have been written with fewer digits.
        if off_grid <= max(1e-3 * step, rounding) and self.low <= nearest <= self.high:
            return nearest
        where = "on the grid of" if self.low <= number <= self.high else "in"
        raise InvalidParametersError(f"{value!r} is not {where} {self!r}.")


@dataclass(frozen=True, eq=False, repr=False)
class Integer(DescribedParameter):
    """A whole number in `[low, high]`, both included.

    Args:
        low: The lowest value.
        high: The highest value, at least `low`.
        log: Search on a logarithmic scale; needs `low >= 1`.
        step: Allow only `low`, `low + step`, …, `high`. The step must divide the range, and cannot
            be combined with `log`.
        default: The value used without a search; must lie in the range.
        fidelity: Whether this is the fidelity of a trial: how much of the full effort it spends,
            such as the number of epochs. The optimizer raises it from `low`, which is above 0, to
            `high` for the trials that do well. It has neither `log` nor `step` nor conditions.

    Raises:
        SpaceError: The range is not well defined.
        InvalidParametersError: The default is not in the range.

    Example:
        >>> list(Integer(1, 7, step=3).values())
        [1, 4, 7]
    """

    low: int
    high: int
    log: bool = dataclasses.field(default=False, kw_only=True)
    step: int | None = dataclasses.field(default=None, kw_only=True)
    default: Any = dataclasses.field(default=NO_DEFAULT, kw_only=True)
    fidelity: bool = dataclasses.field(default=False, kw_only=True)
    conditions: tuple[Condition, ...] = dataclasses.field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        set_fields(
            self, low=_integer(self.low, "low", self), high=_integer(self.high, "high", self)
        )
        if self.step is not None:
            set_fields(self, step=_integer(self.step, "step", self))
        _check_range(self.low, self.high, self.step, log=self.log, kind="Integer")
        _check_fidelity(self)
        set_default(self)

    @property
    def size(self) -> float:
        return (self.high - self.low) // (self.step or 1) + 1

    def value_at(self, index: int) -> int:
        return self.low + index * (self.step or 1)

    def index(self, value: int) -> int:
        """Return the index of a value on the grid of `step`."""
        return (value - self.low) // (self.step or 1)

    def values(self) -> Iterator[int]:
        return iter(range(self.low, self.high + 1, self.step or 1))

    def sample(self, rng: RandomSource) -> int:
        if not self.log:
            return self.value_at(position_of(rng, int(self.size)))
        # Give every integer its share of the log scale, also the two ends.
        low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
        value = round(math.exp(low + float(rng.random()) * (high - low)))
        return min(max(value, self.low), self.high)

    def canonical(self, value: Any) -> int:
        number = real_number(value)
        if number is None or number != number or number in (math.inf, -math.inf):
            raise InvalidParametersError(f"{value!r} is not in {self!r}.")
        whole = int(number)
        if whole != number or not self.low <= whole <= self.high:
            raise InvalidParametersError(f"{value!r} is not in {self!r}.")
        if (whole - self.low) % (self.step or 1):
            raise InvalidParametersError(f"{value!r} is not on the grid of {self!r}.")
        return whole


def _float(value: Any, name: str, parameter: Parameter) -> float:
    number = real_number(value)
    try:
        number = math.nan if number is None else float(number)
    except OverflowError:  # an integer beyond the largest float
        number = math.inf
    if not math.isfinite(number):
        raise SpaceError(f"{type(parameter).__name__}: {name} is a finite number, not {value!r}.")
    return number


def _integer(value: Any, name: str, parameter: Parameter) -> int:
    number = real_number(value)
    if not isinstance(number, int):
        hint = " For real numbers use Float." if isinstance(number, float) else ""
        raise SpaceError(
            f"{type(parameter).__name__}: {name} is a whole number, not {value!r}.{hint}"
        )
    return operator.index(number)


def _check_range(low: float, high: float, step: float | None, *, log: bool, kind: str) -> None:
    shown = f"{kind}({low!r}, {high!r})"
    if low > high:
        raise SpaceError(f"{shown}: low is greater than high. Swap them.")
    if not isinstance(log, bool):
        raise SpaceError(f"{shown}: log is True or False, not {log!r}.")
    if log and low <= 0:
        raise SpaceError(f"{shown}: log=True needs low > 0.")
    if log and high > sys.float_info.max:
        raise SpaceError(f"{shown}: log=True takes numbers up to 1.8e308, the largest float.")
    if step is None:
        return
    if log:
        raise SpaceError(f"{shown}: log=True and step={step!r} exclude each other.")
    if step <= 0:
        raise SpaceError(f"{shown}: step must be positive, not {step!r}.")
    # Compute in decimal, where 0.3 is three times 0.1; in binary floats it is not.
    rest = _EXACT.remainder(_EXACT.subtract(_decimal(high), _decimal(low)), _decimal(step))
    if rest:
        below = _EXACT.subtract(_decimal(high), rest)
        raise SpaceError(
            f"{shown}: step={step!r} does not divide the range. The last value on the grid is "
            f"{below}; give that as high, or another step."
        )
    if low < high and (low + step == low or high - step == high):
        raise SpaceError(f"{shown}: step={step!r} is too small: floats are further apart there.")


def _check_fidelity(parameter: Float | Integer) -> None:
    if parameter.fidelity is False:
        return
    shown = f"{type(parameter).__name__}({parameter.low!r}, {parameter.high!r})"
    if parameter.fidelity is not True:
        raise SpaceError(f"{shown}: fidelity is True or False, not {parameter.fidelity!r}.")
    if not 0 < parameter.low < parameter.high:
        raise SpaceError(f"{shown}: fidelity=True needs 0 < low < high.")
    for name in ("log", "step", "conditions"):
        if value := getattr(parameter, name):
            raise SpaceError(
                f"{shown}: a fidelity has no {name}, but this one has {name}={value!r}. The "
                "optimizer itself chooses the fidelity of each trial; leave it out."
            )


def _decimal(number: float) -> Decimal:
    return Decimal(repr(number))
