"""Two objectives and a constraint: accuracy against prediction time, for a model of limited size.

Needs `pip install "crystallize-opt[optuna,analysis]" scikit-learn`; takes about ten seconds.
"""

from __future__ import annotations

import time

from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

from crystallize_opt import Constraint, Experiment, Integer, Objective
from crystallize_opt.adapters import OptunaOptimizer

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)


def forest(
    trees: Integer(1, 60, log=True),  # type: ignore[valid-type]
    depth: Integer(2, 16),  # type: ignore[valid-type]
) -> dict[str, float]:
    """Return the metrics of a random forest on the test data."""
    model = RandomForestClassifier(trees, max_depth=depth, random_state=0).fit(X_train, y_train)
    start = time.perf_counter()
    accuracy = model.score(X_test, y_test)
    return {
        "accuracy": float(accuracy),
        "milliseconds": 1000 * (time.perf_counter() - start),
        "nodes": float(sum(each.tree_.node_count for each in model.estimators_)),
    }


def main(num_trials: int = 40) -> None:
    experiment = Experiment.of(forest, seed=0)
    optimizer = OptunaOptimizer(
        experiment.search_space(),
        [
            # The thresholds are the point from which the hypervolume is measured.
            Objective("accuracy", "maximize", threshold=0.5),
            Objective("milliseconds", "minimize", threshold=50.0),
        ],
        constraints=[Constraint("nodes", "<=", 5000)],
        seed=0,
    )
    best = experiment.optimize(optimizer, num_trials)
    history = optimizer.history

    for each in history.pareto_front:
        print(f"{each['accuracy']:.3f}  {each['milliseconds']:.2f} ms  {dict(each.params)}")
    print(f"The compromise is {best.name}: {dict(best.params)}")
    print(f"The hypervolume is {history.hypervolume():.2f}")
    history.plot_pareto().savefig("pareto.png")


if __name__ == "__main__":
    main()
