"""BayBE's recommenders, driven by a `Campaign`: `recommend` and `add_measurements`.

For a seed, the suggestions are bit for bit those of a loop over such a campaign with the same
recommender, after `random.seed(seed)`, `numpy.random.seed(seed)` and `torch.manual_seed(seed)`,
with one torch thread. The differences from a loop written by hand are:

- BayBE gets private names (`p0`, `m0`), and the values of this table: a `Float` with `log=True` is
  searched as its logarithm to base 10, because BayBE has no log scale; choices are indices; an
  `Ordinal` is a number, its index. Parameters with one value are not stored.
- Numbers on a grid (`Integer`, `step`, `Ordinal`) are discrete values if there are at most 64
  combinations of all discrete values (10 000 where nothing is continuous); else all of them are
  continuous, and rounded. More combinations of choices than that are refused.
- BayBE repeats a suggestion until its data change: its cache is cleared before each suggestion, and
  pending trials are passed to it as `pending_experiments`.
- A failed trial is added with the worst value so far, which is updated when a worse one comes; it
  is not added before a value is known. (BayBE takes no nan.) An abandoned trial is not added.
- A linear constraint between continuous numbers is BayBE's; any other is kept by asking again: a
  point that violates it is added like a failed trial, and after three such points comes a random
  one that satisfies it. Where fewer than a twentieth of all points satisfy the constraints, BayBE
  searches positions (`crystallize_opt.space.positions`).
- In a finite space every point is suggested once.
- Where BayBE raises an error, a random point is used, unless the recommender does not fit.
- The global generators have a state of the optimizer's own during each call; warnings and messages
  of BoTorch are suppressed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from crystallize_opt.adapters.baybe.library import (
    WRONG_RECOMMENDER,
    Campaign,
    NotEnoughPointsLeftError,
    NumericalTarget,
    ParetoObjective,
    RecommenderProtocol,
    TwoPhaseMetaRecommender,
    pd,
    quietly,
)
from crystallize_opt.adapters.baybe.space import BayBESpace, names_of
from crystallize_opt.errors import UsageError
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.optimizers.random_instead import RandomInstead
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.optimizers.unique import Dropped
from crystallize_opt.runtime.own_random_state import OwnRandomState
from crystallize_opt.space.space import SearchSpace, as_space
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status

_LARGEST = 1e100  # Beyond, the variance that BayBE divides by overflows.

Row = dict[str, Any]
"""A trial as BayBE knows it: a row of its table, without the measurements."""


class BayBEOptimizer(SpaceOptimizer[Row]):
    """BayBE behind the common interface: a random point, then a Gaussian process.

    Args:
        space: A `SearchSpace`, or the mapping that builds one.
        objective: One objective, or several (a `ParetoObjective`).
        constraints: Outcome constraints; they only decide which trial is the best.
        seed: The seed of the global generators, which BayBE gets for itself.
        recommender: A fresh recommender of BayBE, which is copied. Default:
            `TwoPhaseMetaRecommender()`: one random point, then `BotorchRecommender()`.

    Attributes:
        campaign: The BayBE campaign, with its measurements; None if every parameter has one value.

    Raises:
        UnsupportedSpaceError: BayBE cannot take the space.
        UsageError: `recommender` is no recommender.

    Example:
        >>> optimizer = BayBEOptimizer({"x": (-10.0, 10.0)}, Objective("loss", "minimize"), seed=0)
        >>> (treatment,) = optimizer.ask()
        >>> optimizer.tell({"loss": treatment.params["x"] ** 2})
        >>> len(optimizer.campaign.measurements)
        1
    """

    can_be_copied = False
    libraries = (
        *("baybe", "botorch", "gpytorch", "linear-operator", "torch"),
        *("numpy", "scipy", "scikit-learn", "pandas"),
    )
    capabilities = Capabilities(
        conditions=False, attached=True, joint_batches=True, unique_points=True
    )
    asks_in_a_row = 3

    def __init__(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = None,
        recommender: Any = None,
    ) -> None:
        if recommender is not None and not isinstance(recommender, RecommenderProtocol):
            raise UsageError(
                "recommender= takes a recommender of BayBE, such as "
                f"TwoPhaseMetaRecommender(switch_after=5), not {recommender!r}."
            )
        space = as_space(space)
        super().__init__(
            space,
            objective,
            constraints=constraints,
            seed=seed,
            settings={"recommender": recommender},
            repeats="never" if space.size < math.inf else "allowed",
            positions=True,
        )
        self._recommender = TwoPhaseMetaRecommender() if recommender is None else recommender
        self._instead = RandomInstead("BayBE", unless=WRONG_RECOMMENDER)
        self._names = names_of([each.metric for each in self.objectives])
        self._reseed()
        self.measured.when_changed(self._correct)

    def _reseed(self) -> None:
        self._own = OwnRandomState(self.seed, torch=True)
        self.campaign = None
        # The failed trials: the row's number in the campaign, or None while no value is known.
        self._failed: list[tuple[Row, int | None]] = []
        with quietly(OwnRandomState(0, torch=True)):
            self._baybe_space = BayBESpace(self.searched)
            if self._baybe_space.native is not None:
                targets = [
                    NumericalTarget(self._names[each.metric], minimize=each.sign > 0)
                    for each in self.objectives
                ]
                self.campaign = Campaign(
                    self._baybe_space.native,
                    targets[0].to_objective() if len(targets) == 1 else ParetoObjective(targets),
                    recommender=copy.deepcopy(self._recommender),
                )

    # Ask ---------------------------------------------------------------------------------------

    def _suggest(self) -> tuple[Row, dict[str, Any]] | None:
        return next(iter(self._suggest_batch(1)), None)

    def _suggest_batch(self, n: int) -> list[tuple[Row, dict[str, Any]]]:
        if self.campaign is None:
            return []
        pending = [each.handle for each in self.ledger.pending.values()]
        suggested: list[dict[Any, Any]] = []
        with self._instead, quietly(self._own), suppress(NotEnoughPointsLeftError):
            self.campaign.clear_cache()
            table = self.campaign.recommend(
                n, pending_experiments=pd.DataFrame(pending) if pending else None
            )
            suggested = table.to_dict("records")
        found = []
        for each in suggested:
            point = self._baybe_space.decode(each)
            found.append((self._baybe_space.row(each, point), point))
        return found

    def _insert(self, params: Mapping[str, Any]) -> Row:
        return self._baybe_space.encode(params)

    def _drop(self, handle: Row, why: Dropped) -> None:
        if why is Dropped.INFEASIBLE:
            self._fail(handle)

    def _reopen(self, handle: Row, params: Mapping[str, Any]) -> Row:
        return handle  # BayBE was told nothing of the abandoned trial.

    # Tell --------------------------------------------------------------------------------------

    def _learn(self, handle: Row, observation: Observation) -> None:
        if self.campaign is None or observation.status is Status.ABANDONED:
            return
        if observation.status is not Status.COMPLETED:
            self._fail(handle)
            return
        values = [observation.metrics[each.metric] for each in self.objectives]
        self._add(handle, values)

    def _fail(self, row: Row) -> None:
        """Add a trial that has no value, with the worst so far; or keep it until one is known."""
        worst = self.measured.worst_values
        self._failed.append((row, self._add(row, worst) if worst else None))

    def _correct(self) -> None:
        """Give the failed trials the worst values, which have changed."""
        worst, failed = self.measured.worst_values, self._failed
        self._failed = []
        for row, number in failed:
            if number is None:
                number = self._add(row, worst)
            elif self.campaign is not None:
                with quietly(self._own):
                    table = pd.DataFrame([row | self._measurement(worst)], index=[number])
                    self.campaign.update_measurements(table)
            self._failed.append((row, number))

    def _add(self, row: Row, values: Sequence[float]) -> int:
        """Add a row to the campaign, and return its number."""
        if self.campaign is None:
            return 0
        with quietly(self._own):
            self.campaign.add_measurements(pd.DataFrame([row | self._measurement(values)]))
        return len(self.campaign.measurements) - 1

    def _measurement(self, values: Sequence[float]) -> dict[str, float]:
        clipped = [min(max(value, -_LARGEST), _LARGEST) for value in values]
        return dict(zip(self._names.values(), clipped, strict=True))
