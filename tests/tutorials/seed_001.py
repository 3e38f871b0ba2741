from abc import ABC
from dataclasses import dataclass
from crystallize_opt import BaseOptimizer, Objective
from crystallize_opt import Treatment

@dataclass
class Objective:
    metric: str
    direction: str  # "minimize" or "maximize"

class BaseOptimizer(ABC):
    def __init__(self, objective: Objective):
        self.objective = objective

    def ask(self) -> list[Treatment]:
        raise NotImplementedError

    def tell(self, objective_values: dict[str, float]) -> None:
        raise NotImplementedError

    def get_best_treatment(self) -> Treatment:
        raise NotImplementedError

class GridSearchOptimizer(BaseOptimizer):
    def __init__(self, param_grid: dict, objective: Objective):
        super().__init__(objective)
        self.param_grid = param_grid
        self.trial_index = 0
        self.results: list[float] = []

    def ask(self) -> list[Treatment]:
        delta = self.param_grid["delta"][self.trial_index]
        return [Treatment(name=f"trial_{self.trial_index}", apply={"delta": delta})]

    def tell(self, objective_values: dict[str, float]) -> None:
        self.results.append(list(objective_values.values())[0])
        self.trial_index += 1

    def get_best_treatment(self) -> Treatment:
        best_idx = self.results.index(min(self.results))
        return Treatment(name="best", apply={"delta": self.param_grid["delta"][best_idx]})

from crystallize_opt import data_source, pipeline_step
from crystallize_opt import Experiment
from crystallize_opt import Pipeline

@data_source
def initial_data(ctx):
    return [1, 2, 3]

@pipeline_step()
def add_delta(data: list, ctx, *, delta: int = 0) -> list:
    return [x + delta for x in data]

@pipeline_step()
def record_sum(data, ctx):
    ctx.metrics.add("total", sum(data))
    return data

exp = Experiment(datasource=initial_data(), pipeline=Pipeline([add_delta(), record_sum()]))
optimizer = GridSearchOptimizer({"delta": [0, 1, 2]}, Objective("total", "minimize"))

best = exp.optimize(optimizer, num_trials=3)

from crystallize_opt import Hypothesis

def always_better(baseline, treatment):
    return {"p_value": 0.01, "accepted": True, "significant": True}

hyp = Hypothesis(verifier=always_better, metrics="total", ranker=lambda r: r["p_value"])

result = exp.run(treatments=[best], hypotheses=[hyp], replicates=3)
print(result.metrics)

output = exp.apply(treatment=best)
