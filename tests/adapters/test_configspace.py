"""Search spaces to and from ConfigSpace."""

from __future__ import annotations

import enum
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import ConfigSpace as cs  # noqa: N813  (nearly every line needs it)
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crystallize_opt import (
    Categorical,
    Constant,
    Float,
    Integer,
    LinearConstraint,
    Ordinal,
    SearchSpace,
)
from crystallize_opt.adapters.configspace import from_configspace, to_configspace
from crystallize_opt.errors import MissingExtraError, UnsupportedSpaceError
from crystallize_opt.space.parameter import Condition, same_value
from tests.strategies import Blob, spaces

seeds = st.integers(0, 2**32 - 1)


def converted(space: SearchSpace) -> cs.ConfigurationSpace:
    """Return the space in ConfigSpace, or end the example where that is refused."""
    try:
        return to_configspace(space)
    except UnsupportedSpaceError:
        assume(False)
        raise


def without_memory(space: cs.ConfigurationSpace) -> cs.ConfigurationSpace:
    for hyperparameter in space.values():
        hyperparameter.meta = None
    return space


def of(*hyperparameters: Any) -> cs.ConfigurationSpace:
    return cs.ConfigurationSpace(space=list(hyperparameters))


# There and back --------------------------------------------------------------------------------


@settings(max_examples=60)
@given(spaces(fidelity=True))
def test_there_and_back_gives_an_equal_space(space: SearchSpace) -> None:
    again = from_configspace(converted(space))
    assert again == space


@settings(max_examples=40)
@given(spaces(objects=False, fidelity=True))
def test_the_json_of_configspace_gives_an_equal_space(space: SearchSpace) -> None:
    text = json.dumps(converted(space).to_serialized_dict())
    try:
        read = cs.ConfigurationSpace.from_serialized_dict(json.loads(text))
    except ValueError:  # ConfigSpace cannot read all that it writes: lists beside other choices.
        assume(False)
    assert from_configspace(read) == space


@given(spaces(), seeds)
def test_a_sample_of_configspace_is_a_point(space: SearchSpace, seed: int) -> None:
    configspace = converted(space)
    configspace.seed(seed)
    for configuration in configspace.sample_configuration(4):
        configuration.check_valid_configuration()
        space.validate(dict(configuration))
    space.validate(dict(configspace.get_default_configuration()))


@given(spaces(finite=True, constraints=False, max_size=4))
def test_without_memory_the_points_are_the_same(space: SearchSpace) -> None:
    try:
        again = from_configspace(without_memory(converted(space)))
    except UnsupportedSpaceError as error:
        assert "can never be active" in str(error)  # noqa: PT017
        return
    keys = {space.key(space.validate(point)) for point in again.points()}
    assert keys == {space.key(point) for point in space.points()}


@given(spaces(constraints=False), seeds)
def test_without_memory_a_sample_of_one_is_a_point_of_the_other(
    space: SearchSpace, seed: int
) -> None:
    try:
        again = from_configspace(without_memory(converted(space)))
    except UnsupportedSpaceError as error:
        assert "can never be active" in str(error)  # noqa: PT017
        return
    point = again.sample(seed)
    assert same_value(space.validate(point), {n: point[n] for n in space.names if n in point})


def test_each_kind_of_parameter_has_its_counterpart() -> None:
    space = SearchSpace(
        {
            "f": Float(0.0, 2.0),
            "flog": Float(1e-3, 10.0, log=True, default=0.5),
            "fstep": Float(0, 0.3, step=0.1, default=0.2),
            "i": Integer(1, 9, default=4),
            "ilog": Integer(1, 10**9, log=True),
            "istep": Integer(1, 7, step=3),
            "one": Float(0.5, 0.5),
            "c": Categorical(("a", None, (1, 2)), default=None),
            "o": Ordinal(("s", "m", "l")),
            "k": Constant("adam"),
        }
    )
    configspace = to_configspace(space)
    assert dict(without_memory(configspace)) == dict(
        of(
            cs.UniformFloatHyperparameter("f", 0.0, 2.0),
            cs.UniformFloatHyperparameter("flog", 1e-3, 10.0, 0.5, log=True),
            cs.OrdinalHyperparameter("fstep", [0.0, 0.1, 0.2, 0.3], 0.2),
            cs.UniformIntegerHyperparameter("i", 1, 9, 4),
            cs.UniformIntegerHyperparameter("ilog", 1, 10**9, log=True),
            cs.OrdinalHyperparameter("istep", [1, 4, 7]),
            cs.Constant("one", 0.5),
            cs.CategoricalHyperparameter("c", ["a", None, (1, 2)], None),
            cs.OrdinalHyperparameter("o", ["s", "m", "l"]),
            cs.Constant("k", "adam"),
        )
    )


def test_a_configuration_space_that_was_changed_is_read_anew() -> None:
    space = SearchSpace({"x": Float(0, 1, step=0.25), "y": Float(0, 1), "kind": ["a", "b"]})
    changes: list[Callable[[cs.ConfigurationSpace], None]] = [
        lambda c: c.add(cs.Constant("new", 1)),
        lambda c: c.add(cs.EqualsCondition(c["y"], c["kind"], "a")),
        lambda c: setattr(c["y"], "upper", 2.0),
        lambda c: setattr(c["kind"], "default_value", "b"),
    ]
    assert from_configspace(to_configspace(space)) == space
    for change in changes:
        configspace = to_configspace(space)
        change(configspace)
        again = from_configspace(configspace)
        assert again == from_configspace(without_memory(configspace))
        assert isinstance(again["x"], Ordinal)
        assert again != space


# To ConfigSpace --------------------------------------------------------------------------------


def test_conditions_become_equals_in_and_their_conjunction() -> None:
    space = SearchSpace(
        {
            "a": ["x", "y", "z"],
            "n": Float(0, 1, step=0.1),
            "one": Float(0, 1).when(a="x"),
            "some": Float(0, 1).when(a={"x", "z"}),
            "both": Float(0, 1).when(a="x").when(n=3 * 0.1),
        }
    )
    c = to_configspace(space)
    assert c.parent_conditions_of["one"] == [cs.EqualsCondition(c["one"], c["a"], "x")]
    assert c.parent_conditions_of["some"] == [cs.InCondition(c["some"], c["a"], ["x", "z"])]
    assert c.parent_conditions_of["both"] == [
        cs.AndConjunction(
            cs.EqualsCondition(c["both"], c["a"], "x"), cs.EqualsCondition(c["both"], c["n"], 0.3)
        )
    ]


def test_a_child_of_parents_of_different_depth_is_not_sampled_below_an_inactive_one() -> None:
    space = SearchSpace(
        {
            "r": ["x", "y"],
            "m": Categorical(("u", "v")).when(r="x"),
            "d": Categorical(("p", "q")).when(m="u"),
            "c": Constant(1).when(r="x", d="p"),
        }
    )
    configspace = to_configspace(space)
    configspace.seed(0)
    drawn = [space.validate(dict(c)) for c in configspace.sample_configuration(200)]
    assert {space.key(point) for point in drawn} == {space.key(point) for point in space.points()}
    assert from_configspace(configspace) == space


def test_an_order_of_two_parameters_becomes_a_relation() -> None:
    space = SearchSpace({"a": (0.0, 1.0), "b": (0.0, 1.0), "c": (0, 2)}, ["a <= b", "2*c >= 2*b"])
    configspace = to_configspace(space)
    assert list(configspace.forbidden_clauses) == [
        cs.ForbiddenGreaterThanRelation(configspace["a"], configspace["b"]),
        cs.ForbiddenGreaterThanRelation(configspace["b"], configspace["c"]),
    ]
    configspace.seed(0)
    assert all(space.validate(dict(c)) for c in configspace.sample_configuration(100))


def test_defaults_are_chosen_such_that_they_satisfy_the_constraints() -> None:
    space = SearchSpace(
        {"a": Float(0, 10, default=8.0), "b": Float(0, 12), "kind": ["p", "q"]}, ["a <= b"]
    )
    default = to_configspace(space).get_default_configuration()
    assert default["a"] == 8.0
    assert 8.0 <= default["b"] <= 12.0
    assert to_configspace(space).get_default_configuration() == default
    assert not from_configspace(to_configspace(space))["b"].has_default


def test_a_bound_of_more_than_13_decimals_is_moved_inwards() -> None:
    space = SearchSpace({"x": Float(1 / 3, 2 / 3, default=1 / 3)})
    hyperparameter = to_configspace(space)["x"]
    assert isinstance(hyperparameter, cs.UniformFloatHyperparameter)
    assert hyperparameter.lower == 0.3333333333334
    assert hyperparameter.upper == 0.6666666666666
    assert hyperparameter.default_value == hyperparameter.lower
    assert from_configspace(to_configspace(space)) == space


class Colour(enum.IntEnum):
    RED = 1
    BLUE = 2


@pytest.mark.parametrize(
    ("parameter", "reason"),
    [
        (Categorical((True, 1)), "cannot tell True from 1"),
        (Ordinal((1, "a", 1.0)), "cannot tell 1 from 1.0"),
        (Categorical(((1,), (True,))), r"cannot tell \(1,\) from \(True,\)"),
        (Categorical((1, 2.5)), r"would give np.float64\(1.0\) for 1"),
        (Categorical((False, 1)), r"would give np.int64\(0\) for False"),
        (Ordinal((Colour.RED, Colour.BLUE)), r"would give np.int64\(1\) for <Colour.RED: 1>"),
        (Categorical(("a\0", "b")), r"would give np.str_\('a'\) for 'a\\x00'"),
        (Constant("a\0"), "Illegal default value"),
        (Categorical((float("nan"), 1.0)), "Illegal default value nan"),
        (Constant(np.zeros(2)), "does not support numpy arrays"),
        (Float(0, 1, step=1e-5), "the 100001 values are too many to list"),
        (Integer(0, 20_000, step=2), "the 10001 values are too many to list"),
        (Integer(0, 2**53 + 1), r"whole numbers above 2\*\*53"),
        (Float(1e-20, 1.0, log=True), "rounds floats to 13 decimals"),
        (Float(1.23456789e-9, 1.0, log=True), "rounds floats to 13 decimals"),
        (Float(0.0, 1e-14), "rounds floats to 13 decimals"),
        (Float(-1e308, 1e308), "rounds floats to 13 decimals"),
    ],
)
def test_a_parameter_that_configspace_would_change_is_refused(parameter: Any, reason: str) -> None:
    space = SearchSpace({"first": (0.0, 1.0), "val-loss": parameter})
    with pytest.raises(UnsupportedSpaceError, match=f"parameter 'val-loss', .*{reason}"):
        to_configspace(space)


@pytest.mark.parametrize(
    "parameter",
    [
        Categorical((None, True, "a", (1, 2), [1], {"k": 1}, Blob(1))),
        Categorical((True, False), default=False),
        Ordinal((1.5, 2.5)),
        Categorical((2**70, 1)),
        Categorical(([1], [2, 3])),
        Constant((1, 2)),
        Constant([]),
        Constant(None),
        Float(0, 1, step=1e-4 * 2),
        Integer(-(2**53), 2**53),
        Float(1e-13, 1.0, log=True),
    ],
)
def test_a_parameter_that_configspace_keeps_is_taken(parameter: Any) -> None:
    space = SearchSpace({"x": parameter})
    configspace = to_configspace(space)
    configspace.seed(0)
    for configuration in configspace.sample_configuration(20):
        space.validate(dict(configuration))
    assert from_configspace(configspace) == space


@pytest.mark.parametrize(
    "constraint", ["a + b <= 1", "a <= 0.5", "a <= b + 0.5", "a <= 2*b", "a <= b + c", "a + b <= 0"]
)
def test_any_other_constraint_is_refused(constraint: str) -> None:
    space = SearchSpace({"a": (0.0, 1.0), "b": (0.0, 1.0), "c": (0.0, 1.0)}, [constraint])
    with pytest.raises(UnsupportedSpaceError, match=r"cannot take LinearConstraint\(\{'a': 1.0"):
        to_configspace(space)


def test_defaults_that_violate_a_constraint_are_refused() -> None:
    space = SearchSpace({"a": Float(0, 1, default=0.75), "b": Float(0, 1, default=0.5)}, ["a <= b"])
    with pytest.raises(UnsupportedSpaceError, match=r"\{'a': 0.75, 'b': 0.5\}. Give other"):
        to_configspace(space)


# From ConfigSpace ------------------------------------------------------------------------------


def test_each_hyperparameter_has_its_counterpart() -> None:
    configspace = of(
        cs.UniformFloatHyperparameter("f", 0, 2),
        cs.UniformFloatHyperparameter("g", 1e-3, 10, 0.5, log=True),
        cs.UniformIntegerHyperparameter("i", 1, 9),
        cs.UniformIntegerHyperparameter("j", 1, 9, 2, log=True),
        cs.CategoricalHyperparameter("c", ["a", None], None),
        cs.CategoricalHyperparameter("d", ["a", "b"], weights=[2, 2]),
        cs.OrdinalHyperparameter("o", ["s", "m"]),
        cs.Constant("k", 3),
    )
    assert dict(from_configspace(configspace)) == {
        "f": Float(0.0, 2.0, default=1.0),
        "g": Float(1e-3, 10.0, log=True, default=0.5),
        "i": Integer(1, 9, default=5),
        "j": Integer(1, 9, log=True, default=2),
        "c": Categorical(("a", None), default=None),
        "d": Categorical(("a", "b"), default="a"),
        "o": Ordinal(("s", "m"), default="s"),
        "k": Constant(3),
    }


def test_numpy_values_become_plain_values() -> None:
    configspace = of(
        cs.CategoricalHyperparameter("c", list(np.array(["a", "b"])), np.str_("b")),
        cs.OrdinalHyperparameter("o", list(np.arange(3)), np.int64(1)),
        cs.UniformIntegerHyperparameter("i", np.int64(0), np.int64(5), np.int64(2)),
        cs.UniformFloatHyperparameter("f", np.float32(0), np.float32(1), np.float32(0.5)),
        cs.Constant("k", np.float64(0.5)),
        cs.Constant("child", 1),
    )
    configspace.add(
        cs.AndConjunction(
            cs.EqualsCondition(configspace["child"], configspace["c"], np.str_("a")),
            cs.InCondition(configspace["child"], configspace["o"], list(np.array([0, 2]))),
        )
    )
    space = from_configspace(configspace)
    assert "np." not in repr(space)
    assert json.loads(json.dumps(space.to_dict())) == space.to_dict()
    assert space["child"].conditions == (Condition("c", ("a",)), Condition("o", (0, 2)))
    defaults = {name: parameter.default for name, parameter in space.items()}
    assert defaults == {"c": "b", "o": 1, "i": 2, "f": 0.5, "k": 0.5, "child": 1}


def a_space_with_a_child() -> cs.ConfigurationSpace:
    return of(
        cs.CategoricalHyperparameter("kind", ["a", "b", "c"]),
        cs.OrdinalHyperparameter("size", ["s", "m", "l", "xl"]),
        cs.UniformIntegerHyperparameter("n", 1, 6),
        cs.UniformIntegerHyperparameter("wide", 1, 10**9),
        cs.UniformFloatHyperparameter("x", 0, 1),
        cs.Constant("k", 1),
        cs.UniformFloatHyperparameter("child", 0, 1),
    )


@pytest.mark.parametrize(
    ("make", "conditions"),
    [
        (lambda c, p: cs.EqualsCondition(c, p["kind"], "b"), {"kind": ("b",)}),
        (lambda c, p: cs.InCondition(c, p["kind"], ["b", "a"]), {"kind": ("a", "b")}),
        (lambda c, p: cs.NotEqualsCondition(c, p["kind"], "b"), {"kind": ("a", "c")}),
        (lambda c, p: cs.NotEqualsCondition(c, p["n"], 3), {"n": (1, 2, 4, 5, 6)}),
        (lambda c, p: cs.GreaterThanCondition(c, p["size"], "m"), {"size": ("l", "xl")}),
        (lambda c, p: cs.LessThanCondition(c, p["size"], "m"), {"size": ("s",)}),
        (lambda c, p: cs.GreaterThanCondition(c, p["n"], 4), {"n": (5, 6)}),
        (lambda c, p: cs.EqualsCondition(c, p["wide"], 7), {"wide": (7,)}),
        (lambda c, p: cs.InCondition(c, p["n"], [2.0, 3]), {"n": (2, 3)}),
        (lambda c, p: cs.EqualsCondition(c, p["k"], 1), {"k": (1,)}),
        (
            lambda c, p: cs.AndConjunction(
                cs.EqualsCondition(c, p["kind"], "b"),
                cs.AndConjunction(
                    cs.GreaterThanCondition(c, p["n"], 2), cs.LessThanCondition(c, p["n"], 5)
                ),
            ),
            {"kind": ("b",), "n": (3, 4)},
        ),
    ],
)
def test_each_condition_has_its_counterpart(make: Any, conditions: dict[str, Any]) -> None:
    configspace = a_space_with_a_child()
    configspace.add(make(configspace["child"], configspace))
    space = from_configspace(configspace)
    assert space["child"].conditions == tuple(
        Condition(parent, values) for parent, values in conditions.items()
    )
    configspace.seed(0)
    for configuration in configspace.sample_configuration(50):
        space.validate(dict(configuration))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda c, p: cs.OrConjunction(
                cs.EqualsCondition(c, p["kind"], "b"), cs.EqualsCondition(c, p["n"], 1)
            ),
            "SearchSpace has no OrConjunction",
        ),
        (
            lambda c, p: cs.AndConjunction(
                cs.EqualsCondition(c, p["size"], "m"),
                cs.OrConjunction(
                    cs.EqualsCondition(c, p["kind"], "b"), cs.EqualsCondition(c, p["n"], 1)
                ),
            ),
            "SearchSpace has no OrConjunction",
        ),
        (lambda c, p: cs.GreaterThanCondition(c, p["x"], 0.5), "'x' is continuous"),
        (lambda c, p: cs.EqualsCondition(c, p["x"], 0.5), "'x' is continuous"),
        (lambda c, p: cs.LessThanCondition(c, p["wide"], 5), "'wide' has more than 10000 values"),
        (lambda c, p: cs.LessThanCondition(c, p["size"], "s"), "can never be active"),
        (
            lambda c, p: cs.AndConjunction(
                cs.GreaterThanCondition(c, p["n"], 4), cs.LessThanCondition(c, p["n"], 5)
            ),
            "can never be active: no value of 'n'",
        ),
    ],
)
def test_other_conditions_are_refused(make: Any, reason: str) -> None:
    configspace = a_space_with_a_child()
    configspace.add(make(configspace["child"], configspace))
    with pytest.raises(UnsupportedSpaceError, match=f"Hyperparameter 'child'.*{reason}"):
        from_configspace(configspace)


def test_unequal_to_a_parent_that_can_be_inactive_is_refused() -> None:
    configspace = a_space_with_a_child()
    configspace.add(cs.EqualsCondition(configspace["n"], configspace["kind"], "a"))
    configspace.add(cs.NotEqualsCondition(configspace["child"], configspace["n"], 1))
    configspace.seed(0)
    drawn = [dict(c) for c in configspace.sample_configuration(50)]
    assert any("child" in point and "n" not in point for point in drawn)
    with pytest.raises(UnsupportedSpaceError, match=r"'child'.* takes an inactive parent for uneq"):
        from_configspace(configspace)


@pytest.mark.parametrize(
    ("hyperparameter", "reason"),
    [
        (cs.NormalFloatHyperparameter("h", 0, 1, lower=-2, upper=2), "no NormalFloatHyperp"),
        (cs.NormalIntegerHyperparameter("h", 0, 1, lower=-2, upper=2), "no NormalIntegerHyperp"),
        (cs.BetaFloatHyperparameter("h", 2, 2, 0, 1), "no BetaFloatHyperparameter"),
        (cs.BetaIntegerHyperparameter("h", 2, 2, 0, 9), "no BetaIntegerHyperparameter"),
        (cs.CategoricalHyperparameter("h", ["a", "b"], weights=[1, 2]), r"weights \(1, 2\)"),
    ],
)
def test_priors_are_refused(hyperparameter: Any, reason: str) -> None:
    with pytest.raises(UnsupportedSpaceError, match=f"Hyperparameter 'h': .*{reason}"):
        from_configspace(of(hyperparameter))


def test_the_two_relations_become_constraints() -> None:
    configspace = of(cs.Float("a", (0, 1)), cs.Integer("b", (0, 2)), cs.Float("c", (0, 1)))
    configspace.add(
        cs.ForbiddenGreaterThanRelation(configspace["a"], configspace["b"]),
        cs.ForbiddenLessThanRelation(configspace["a"], configspace["c"]),
    )
    space = from_configspace(configspace)
    assert space.constraints == (
        LinearConstraint.parse("c <= a"),
        LinearConstraint.parse("a <= b"),
    )
    configspace.seed(0)
    assert all(space.validate(dict(c)) for c in configspace.sample_configuration(50))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: cs.ForbiddenEqualsClause(p["kind"], "b"), "kind.* no ForbiddenEqualsClause"),
        (lambda p: cs.ForbiddenInClause(p["kind"], ["b", "c"]), "kind.* no ForbiddenInClause"),
        (lambda p: cs.ForbiddenGreaterThanClause(p["n"], 5), "n.* no ForbiddenGreaterThanClause"),
        (lambda p: cs.ForbiddenEqualsRelation(p["n"], p["x"]), "n == x.* no ForbiddenEqualsRel"),
        (
            lambda p: cs.ForbiddenAndConjunction(
                cs.ForbiddenEqualsClause(p["kind"], "b"), cs.ForbiddenEqualsClause(p["n"], 1)
            ),
            "kind.* no ForbiddenAndConjunction",
        ),
        (
            lambda p: cs.forbidden.ForbiddenGreaterThanEqualsRelation(p["x"], p["n"]),
            "x >= n.* no ForbiddenGreaterThanEqualsRelation",
        ),
        (
            lambda p: cs.forbidden.ForbiddenLessThanEqualsRelation(p["n"], p["x"]),
            "n <= x.* no ForbiddenLessThanEqualsRelation",
        ),
        (lambda p: cs.ForbiddenGreaterThanRelation(p["k"], p["n"]), "'k' is Constant"),
    ],
)
def test_other_forbidden_clauses_are_refused(make: Any, reason: str) -> None:
    configspace = a_space_with_a_child()
    configspace.add(make(configspace))
    with pytest.raises(UnsupportedSpaceError, match=reason):
        from_configspace(configspace)


# Without ConfigSpace ---------------------------------------------------------------------------


def test_without_configspace_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ConfigSpace", None)
    monkeypatch.delitem(sys.modules, "crystallize_opt.adapters.configspace", raising=False)
    with pytest.raises(MissingExtraError, match=r'pip install "crystallize-opt\[smac\]"') as caught:
        importlib.import_module("crystallize_opt.adapters.configspace")
    assert caught.value.name == "ConfigSpace"
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_broken_configspace_shows_its_own_cause() -> None:
    code = (
        "import sys; sys.modules['more_itertools'] = None; "
        "import crystallize_opt.adapters.configspace"
    )
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "ModuleNotFoundError: import of more_itertools halted" in ended.stderr
    assert "MissingExtraError" not in ended.stderr
