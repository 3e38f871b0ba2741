"""Named changes to the context."""

import copy
import json
import pickle
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystallize_opt import FrozenContext, Treatment
from crystallize_opt.errors import ContextMutationError


@pytest.mark.parametrize("mapping", [{"a": 1, "b": None}, MappingProxyType({"a": 1, "b": None})])
def test_a_mapping_is_written_into_the_context(mapping: Any) -> None:
    treatment = Treatment("t", mapping)
    ctx = FrozenContext({"c": 3})
    treatment.apply(ctx)

    assert dict(ctx.as_dict()) == {"c": 3, "a": 1, "b": None}
    assert dict(treatment.params) == {"a": 1, "b": None}


def test_a_function_is_called_with_the_context() -> None:
    treatment = Treatment(name="t", apply=lambda ctx: ctx.add("a", 1))
    ctx = FrozenContext()
    treatment.apply(ctx)

    assert ctx["a"] == 1
    assert dict(treatment.params) == {}


def test_without_a_change() -> None:
    ctx = FrozenContext()
    Treatment("t").apply(ctx)

    assert list(ctx) == []


def test_a_key_that_is_set_cannot_be_changed() -> None:
    with pytest.raises(ContextMutationError, match="'a'"):
        Treatment("t", {"a": 1}).apply(FrozenContext({"a": 0}))


def test_parameters_are_read_only_and_the_treatments_own() -> None:
    given = {"a": 1}
    treatment = Treatment("t", given)
    given["a"] = 2
    params: Any = treatment.params

    with pytest.raises(TypeError):
        params["a"] = 3
    assert dict(treatment.params) == {"a": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3,), "name is a string, not 3"),
        (("t", 3), "'t': apply= takes a mapping of parameters or a function .*, not 3"),
        (("t", [("a", 1)]), "takes a mapping"),
    ],
)
def test_what_is_no_treatment_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Treatment(*arguments)


VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
PARAMS = st.dictionaries(st.text(), VALUES | st.lists(VALUES), max_size=4)


@given(PARAMS)
def test_parameters_pass_for_a_dict(params: dict[str, Any]) -> None:
    treatment = Treatment("t", params)

    for copied in (
        treatment.params,
        json.loads(json.dumps(treatment.params)),
        pickle.loads(pickle.dumps(treatment.params)),  # noqa: S301
        pickle.loads(pickle.dumps(treatment, 2)).params,  # noqa: S301
        copy.copy(treatment.params),
        copy.deepcopy(treatment).params,
        dict(**treatment.params),
        treatment.params | {},
    ):
        assert copied == params
        assert list(copied) == list(params)
    for name, value in params.items():
        assert name in treatment
        assert treatment[name] == value


@pytest.mark.parametrize(
    "change",
    [
        lambda params: params.update(a=2),
        lambda params: params.__setitem__("a", 2),
        lambda params: params.__delitem__("a"),
        lambda params: params.pop("a"),
        lambda params: params.popitem(),
        lambda params: params.setdefault("b", 2),
        lambda params: params.clear(),
        lambda params: params.__ior__({"a": 2}),
    ],
)
def test_parameters_cannot_be_changed(change: Callable[[Any], Any]) -> None:
    for treatment in (Treatment("t", {"a": 1}), copy.deepcopy(Treatment("t", {"a": 1}))):
        with pytest.raises(TypeError, match="copy them: dict"):
            change(treatment.params)
        assert treatment.params == {"a": 1}


def test_a_parameter_that_is_not_set_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="'t' sets no parameter 'b'; its parameters: 'a'"):
        Treatment("t", {"a": 1})["b"]
    with pytest.raises(TypeError):
        list(Treatment("t", {"a": 1}))  # type: ignore[call-overload]
