"""The replay of an optimizer that knows nothing but `ask` and `tell`."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from crystallize_opt.errors import ReplayDiverged
from crystallize_opt.trials.calls import Asked, Event, Told
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.treatment import Treatment

Ask = Callable[[], Awaitable[list[Treatment]]]
Tell = Callable[[Observation], Awaitable[None]]


class PlainReplay:
    """Asks and tells a plain optimizer again, as the loop does: a batch, and all of it in order.

    Args:
        events: What was recorded. Trials are recorded when they are finished, and told in order.
        text: Returns what treatments are compared by.

    Attributes:
        asked: How many treatments were asked for.
        told: What was told.
        untold: Of the last batch, what is still to be told: the treatments, recorded and now.
    """

    def __init__(self, events: Sequence[Event], text: Callable[[Treatment], str]) -> None:
        self.asked = 0
        self.told: list[Observation] = []
        self.untold: deque[tuple[Treatment, Treatment]] = deque()
        self._batches = [event.treatments for event in events if isinstance(event, Asked)]
        self._found = {
            id(event.observation.treatment): event.observation
            for event in events
            if isinstance(event, Told)
        }
        self._text = text

    async def run(self, ask: Ask, tell: Tell) -> None:
        """Go through the record.

        Raises:
            ReplayDiverged: The optimizer suggests something else.
        """
        for batch in self._batches:
            asked = await ask()
            texts = [[self._text(treatment) for treatment in each] for each in (batch, asked)]
            if texts[0] != texts[1]:
                raise ReplayDiverged(
                    f"The replay diverges at {batch[0].name!r}: recorded {texts[0]}, now "
                    f"{texts[1]}. Give a fresh optimizer, whose random choices have a fixed seed."
                )
            self.asked += len(asked)
            self.untold.extend(zip(batch, asked, strict=True))
            await self._tell_in_order(tell)

    async def _tell_in_order(self, tell: Tell) -> None:
        while self.untold:
            observation = self.observation_of(*self.untold[0])
            if observation is None:
                return
            self.untold.popleft()
            await tell(observation)
            self.told.append(observation)

    def observation_of(self, recorded: Treatment, treatment: Treatment) -> Observation | None:
        """Return what was recorded of a treatment, if it was finished."""
        found = self._found.get(id(recorded))
        return None if found is None else dataclasses.replace(found, treatment=treatment)
