"""Tune a real classifier on scikit-learn's handwritten digits, and check the winner on unseen data.

Run it with `python examples/quickstart.py`; it takes about 10 seconds and downloads nothing. It
needs scikit-learn, and matplotlib for the picture.
"""

from statistics import fmean
from typing import Annotated, Any

from sklearn.datasets import load_digits
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from crystallize_opt import (
    Categorical,
    Experiment,
    Float,
    FrozenContext,
    Integer,
    Objective,
    Pipeline,
    data_source,
    pipeline_step,
)
from crystallize_opt.adapters import OptunaOptimizer as Optimizer  # swap this line

images, labels = load_digits(return_X_y=True)
# The search uses `known` only; `unseen` measures the winner at the end.
known, unseen, known_labels, unseen_labels = train_test_split(
    images, labels, test_size=0.5, stratify=labels, random_state=0
)


@data_source
def digits(ctx: FrozenContext) -> Any:
    """Split the known digits for training and validation, differently in each replicate."""
    return train_test_split(
        known, known_labels, test_size=0.3, stratify=known_labels, random_state=ctx["seed_used"]
    )


@pipeline_step()
def train(
    data: Any,
    ctx: FrozenContext,
    *,
    kernel: Annotated[str, Categorical(["rbf", "poly", "linear"])] = "rbf",
    gamma: Annotated[float, Float(1e-4, 1.0, log=True).when(kernel={"rbf", "poly"})] = 1 / 64,
    degree: Annotated[int, Integer(2, 5).when(kernel="poly")] = 3,
    alpha: Annotated[float, Float(1e-4, 1e2, log=True)] = 1.0,
) -> Any:
    """Fit a ridge classifier on kernel features; the defaults are scikit-learn's."""
    x_train, x_valid, y_train, y_valid = data
    kernel_only = {"rbf": {"gamma": gamma}, "poly": {"gamma": gamma, "degree": degree}}
    features = Nystroem(kernel, **kernel_only.get(kernel, {}), random_state=ctx["seed_used"])
    model = make_pipeline(StandardScaler(), features, RidgeClassifier(alpha)).fit(x_train, y_train)
    ctx.metrics.add("accuracy", model.score(x_valid, y_valid))
    return model


experiment = Experiment(datasource=digits(), pipeline=Pipeline([train()]), seed=0)
optimizer = Optimizer(experiment.search_space(), Objective("accuracy", "maximize"), seed=0)

if __name__ == "__main__":
    threadpool_limits(1)  # The matrices are small: more threads cost more than they save.
    best = experiment.optimize(
        optimizer, num_trials=30, replicates_per_trial=3, baseline=True, progress=True
    )
    print("Best parameters:", dict(best.params))
    optimizer.history.plot().savefig("quickstart.png")
    print("Each trial, the best so far and the baseline: quickstart.png")

    print(f"Accuracy on {len(unseen)} digits that the search never saw, mean of 5 trainings:")
    for name, treatment in [("untuned baseline", None), ("winner", best)]:
        models = [experiment.apply(treatment, seed=seed) for seed in range(5)]
        print(f"  {name:<17} {fmean(m.score(unseen, unseen_labels) for m in models):.4f}")
