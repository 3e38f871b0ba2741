"""A search space as a table, in text and in HTML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from crystallize_opt.runtime.shown import cut, html_table
from crystallize_opt.space.constraint import LinearConstraint
from crystallize_opt.space.parameter import Parameter


def as_text(parameters: Mapping[str, Parameter], constraints: Sequence[LinearConstraint]) -> str:
    """Return one line for each parameter and constraint, below a heading."""
    width = max((len(name) for name in parameters), default=0)
    rows = [f"  {name:<{width}}  {cut(repr(each))}" for name, each in parameters.items()]
    rows += [f"  {cut(text)}" for text in texts(constraints)]
    return "\n".join([_heading(parameters, constraints), *rows])


def as_html(parameters: Mapping[str, Parameter], constraints: Sequence[LinearConstraint]) -> str:
    """Return an HTML table, for notebooks."""
    rows = [[name, repr(each)] for name, each in parameters.items()]
    rows += [["", text] for text in texts(constraints)]
    return html_table(_heading(parameters, constraints), [], rows)


def texts(constraints: Sequence[LinearConstraint]) -> Iterator[str]:
    """Return the constraints as people write them; two that make an equality become one."""
    left = list(constraints)
    while left:
        one = left.pop(0)
        opposite = one.opposite
        if opposite in left:
            left.remove(opposite)
            # Of the two, show the one that was written with positive factors.
            shown = opposite if next(iter(one.coefficients.values())) < 0 else one
            yield shown.written("==")
        else:
            yield one.text


def _heading(parameters: Mapping[str, Parameter], constraints: Sequence[LinearConstraint]) -> str:
    count = len(parameters)
    heading = f"SearchSpace of {count} parameter{'s' * (count != 1)}"
    if constraints:
        number = sum(1 for _ in texts(constraints))
        heading += f" and {number} linear constraint{'s' * (number != 1)}"
    return heading + (":" if parameters else "")
