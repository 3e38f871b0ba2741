"""A search whose trials run on a Dask cluster: here of this machine, as well of many.

Needs `pip install "crystallize-opt[optuna,dask]"`. For a cluster of a batch system, make the client
from dask-jobqueue: `Client(SLURMCluster(...))`.
"""

from __future__ import annotations

from distributed import Client, LocalCluster

from crystallize_opt import Experiment, Float, Objective, Workers
from crystallize_opt.adapters import OptunaOptimizer


def loss(x: Float(-5.0, 5.0), y: Float(-5.0, 5.0)) -> float:  # type: ignore[valid-type]
    """Return the loss."""
    return float((x - 1) ** 2 + (y + 2) ** 2)


def main(num_trials: int = 40, workers: int = 2) -> None:
    experiment = Experiment.of(loss, seed=0)
    optimizer = OptunaOptimizer(experiment.search_space(), Objective("loss", "minimize"), seed=0)
    cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0")  # type: ignore[no-untyped-call]
    with cluster, Client(cluster) as client:  # type: ignore[no-untyped-call]
        # A function that makes the executor: if it breaks, the search makes another one.
        best = experiment.optimize(
            optimizer, num_trials, workers=Workers(client.get_executor, workers)
        )
    print(f"{len(optimizer.history)} trials, the best is {best.name}: {dict(best.params)}")


if __name__ == "__main__":
    main()
