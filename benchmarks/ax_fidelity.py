"""What the client of Ax does with a parameter that is a fidelity.

`RangeParameterConfig` has no such field, so the parameter of the client's experiment is marked
after it was made. Prints the fidelity of each suggestion of the default strategy, until it fails.

Run with: python benchmarks/ax_fidelity.py
"""

from __future__ import annotations

import dataclasses
import logging
import warnings
from typing import Any

from crystallize_opt.adapters.ax.optimizer import importing_ax

TRIALS = 8


def main() -> None:
    with importing_ax():
        from ax.api.client import Client
        from ax.api.configs import RangeParameterConfig
    warnings.simplefilter("ignore")
    logging.getLogger("ax").setLevel(logging.ERROR)
    print("fields:", ", ".join(each.name for each in dataclasses.fields(RangeParameterConfig)))
    client: Any = Client(random_seed=0)
    client.configure_experiment(
        parameters=[
            RangeParameterConfig(name="x", bounds=(0.0, 1.0), parameter_type="float"),
            RangeParameterConfig(name="y", bounds=(0.0, 1.0), parameter_type="float"),
            RangeParameterConfig(name="epochs", bounds=(1, 27), parameter_type="int"),
        ]
    )
    epochs = client._experiment.search_space.parameters["epochs"]
    epochs._is_fidelity, epochs._target_value = True, 27
    client.configure_optimization(objective="-loss")
    client.configure_generation_strategy(
        method="fast",
        initialization_random_seed=0,
        initialize_with_center=False,
        allow_exceeding_initialization_budget=True,
    )
    for _ in range(TRIALS):
        try:
            ((index, params),) = client.get_next_trials(1).items()
        except Exception as error:  # noqa: BLE001  (printed)
            print(f"{type(error).__name__}: {error}")
            return
        print("epochs:", params["epochs"])
        loss = (params["x"] - 0.3) ** 2 + (params["y"] - 0.7) ** 2 + 0.5 / params["epochs"]
        client.complete_trial(index, {"loss": loss})


if __name__ == "__main__":
    main()
