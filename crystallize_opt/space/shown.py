"""A search space as a table, in text and in HTML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from crystallize_opt.space.constraint import LinearConstraint
from crystallize_opt.space.parameter import Parameter

_WIDEST = 150  # Characters of one row, after which it is cut.


def as_text(parameters: Mapping[str, Parameter], constraints: Sequence[LinearConstraint]) -> str:
    """Return one line for each parameter and constraint, below a heading."""
    width = max((len(name) for name in parameters), default=0)
    rows = [f"  {name:<{width}}  {_cut(repr(each))}" for name, each in parameters.items()]
    rows += [f"  {_cut(text)}" for text in texts(constraints)]
    return "\n".join([_heading(parameters, constraints), *rows])


def as_html(parameters: Mapping[str, Parameter], constraints: Sequence[LinearConstraint]) -> str:
    """Return an HTML table, for notebooks."""
    import html  # Seldom needed, and slow to import.

    # A notebook typesets what is between dollar signs as mathematics, but not in `code`.
    def code(text: str) -> str:
        return f"<code>{html.escape(_cut(text))}</code>"

    rows = [
        f"<tr><th>{code(name)}</th><td>{code(repr(each))}</td></tr>"
        for name, each in parameters.items()
    ]
    rows += [f'<tr><td colspan="2">{code(text)}</td></tr>' for text in texts(constraints)]
    return f"<p>{_heading(parameters, constraints)}</p><table>{''.join(rows)}</table>"


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


def _cut(text: str) -> str:
    if len(text) <= _WIDEST:
        return text
    half = (_WIDEST - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"
