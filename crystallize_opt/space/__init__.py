"""Search spaces: parameters, conditions, linear constraints."""

from crystallize_opt.space.choices import Categorical, Constant, Ordinal
from crystallize_opt.space.constraint import LinearConstraint
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Condition, Parameter
from crystallize_opt.space.space import SearchSpace

__all__ = [
    "Categorical",
    "Condition",
    "Constant",
    "Float",
    "Integer",
    "LinearConstraint",
    "Ordinal",
    "Parameter",
    "SearchSpace",
]
