"""The trace of an optimization as SVG: well formed, and true to the numbers."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from typing import Literal, get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from crystallize_opt import Constraint, Objective, Observation, Status, Treatment
from crystallize_opt.analysis.svg import legend, svg_of
from crystallize_opt.history.trace import traces
from crystallize_opt.trials.best import Criterion

Direction = Literal["minimize", "maximize"]
VALUES = st.floats(allow_nan=False, allow_infinity=False)


def drawn(trials: list[Observation], sign: Direction = "minimize") -> ET.Element:
    criterion = Criterion((Objective("<loss> & co", sign),), (Constraint("size", "<=", 1.0),))
    (trace,) = traces(trials, criterion, trials[0] if trials else None)
    return ET.fromstring(svg_of(trace))  # noqa: S314  (written here)


def trial(number: int, value: float | None, size: float = 0.0) -> Observation:
    treatment = Treatment(f"t_{number}", {"x": number})
    if value is None:
        return Observation(treatment, status=Status.FAILED, error="no luck")
    return Observation(treatment, {"<loss> & co": value, "size": size})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.none() | VALUES, st.sampled_from([0.0, 2.0])), max_size=30),
    st.sampled_from(get_args(Direction)),
)
def test_the_picture_of_any_trace_is_well_formed_and_inside(
    values: list[tuple[float | None, float]], sign: Direction
) -> None:
    trials = [trial(number, value, size) for number, (value, size) in enumerate(values)]
    picture = drawn(trials, sign)

    for path in picture.iter("path"):
        for x, y in re.findall(r"M(\S+?) (\S+?)(?=[hHvVm]|$)", path.get("d", "")):
            assert 0 <= float(x) <= 720
            assert 0 <= float(y) <= 260
    assert not [text for text in picture.itertext() if "nan" in text or "inf" in text]


def test_each_trial_is_drawn_where_its_value_is() -> None:
    trials = [trial(0, 3.0), trial(1, None), trial(2, 1.0), trial(3, 2.0, 9.0), trial(4, 2.0)]
    picture = drawn(trials)
    paths = {path.get("class"): path.get("d", "") for path in picture.iter("path")}

    places = [float(y) for y in re.findall(r"M\S+ (\S+?)h0", paths["trial"])]
    assert len(places) == 3
    assert places[0] < places[2] < places[1]  # Low values are at the bottom.
    assert paths["violates"].count("M") == 1
    assert paths["failed"].count("M") == 1
    assert paths["best"].count("V") == 1  # It became better once.
    assert "the best so far" in "".join(picture.itertext())


def test_the_legend_names_what_is_drawn() -> None:
    criterion = Criterion((Objective("<loss> & co", "minimize"),))
    (trace,) = traces([trial(0, 3.0), trial(1, None)], criterion, None)

    assert dict(legend(trace)) == {
        "trial": "trial",
        "best": "best so far",
        "failed": "1 failed",
    }
    assert math.isnan(traces([trial(1, None)], criterion, None)[0].best[0])
