"""Lets SMAC start from attached trials.

By itself, SMAC makes its whole initial design, however many trials it knows. A multi-fidelity
facade runs every known configuration again, with the lowest budget.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from ConfigSpace import Configuration
from smac.facade.abstract_facade import AbstractFacade
from smac.initial_design import AbstractInitialDesign, DefaultInitialDesign
from smac.intensifier import SuccessiveHalving
from smac.model.random_model import RandomModel
from smac.runhistory import RunHistory

ATTACHED = "attached"
"""Key in `TrialValue.additional_info`: the trial was attached, and has completed."""


def shorten_initial_design(facade: AbstractFacade) -> None:
    """Let each attached point take the place of the last point of the facade's initial design.

    The design ends when as many points are known as it has. The default configuration and
    `additional_configs` are suggested in any case, because somebody chose them.
    """
    design: Any = facade._initial_design  # noqa: SLF001
    selector: Any = facade.intensifier.config_selector
    points = selector._initial_design_configs  # noqa: SLF001
    selector._initial_design_configs = _ShorterDesign(points, design, facade.runhistory)  # noqa: SLF001


def has_a_model(facade: AbstractFacade) -> bool:
    """Whether the facade's suggestions depend on what is known."""
    return not isinstance(facade._model, RandomModel)  # noqa: SLF001


class _ShorterDesign:
    """The points of an initial design, of which attached points replace the last ones.

    SMAC iterates over the points during the search, so trials count whenever they are attached.
    """

    def __init__(
        self, points: list[Configuration], design: AbstractInitialDesign, known: RunHistory
    ) -> None:
        chosen = points if isinstance(design, DefaultInitialDesign) else design._additional_configs  # noqa: SLF001
        self._filling = [point for point in points if point not in chosen]
        self._chosen = [point for point in points if point in chosen]
        self._known = known

    def __len__(self) -> int:
        attached = {
            key.config_id
            for key, value in self._known.items()
            if value.additional_info.get(ATTACHED)
        }
        return max(0, len(self._filling) - len(attached)) + len(self._chosen)

    def __iter__(self) -> Iterator[Configuration]:
        for number, point in enumerate(self._filling):
            if number >= len(self) - len(self._chosen):
                break
            yield point
        yield from self._chosen


class Brackets(SuccessiveHalving):
    """Lets known trials with the lowest budget compete for the next one, as if SMAC asked for them.

    All other known trials only teach the model. SMAC would run their configurations again with the
    lowest budget.
    """

    def __iter__(self) -> Iterator[Any]:
        self.__post_init__()  # Computes the budgets. `super().__iter__` repeats it, without harm.
        known: RunHistory = self.runhistory
        lowest, size = self._budgets_in_stage[0][0], self._n_configs_in_stage[0][0]
        numbers = dict.fromkeys(key.config_id for key in known if key.budget == lowest)
        waiting = (known.get_config(number) for number in numbers)
        first_stage = self._tracker[0, 0]  # Now SMAC does not fill this stage.
        while batch := list(islice(waiting, size)):
            batch += islice(self.config_generator, size - len(batch))
            first_stage.append((None, batch))
        yield from super().__iter__()


def competing_in_brackets(facade: AbstractFacade) -> set[int] | None:
    """Return the ids of the configurations that compete for a higher budget; None if unknown.

    SMAC takes those out that are not promoted when it compares a stage, in the `ask` after the last
    trial of the stage was told; those of a bracket's last stage in the next `ask`.
    """
    intensifier: Any = facade.intensifier
    if not isinstance(intensifier, SuccessiveHalving):
        return None
    stages: Any = intensifier._tracker  # noqa: SLF001
    # The `id`, because the hash of a configuration is that of its text: it takes too long.
    return {id(each) for batches in stages.values() for _, batch in batches for each in batch}


def budgets_of(facade: AbstractFacade) -> list[float]:
    """Return the budgets that a multi-fidelity facade gives to trials."""
    intensifier: Any = facade.intensifier
    if not isinstance(intensifier, SuccessiveHalving):
        return []
    intensifier.__post_init__()
    stages: Any = intensifier._budgets_in_stage  # noqa: SLF001
    return sorted({budget for budgets in stages.values() for budget in budgets})
