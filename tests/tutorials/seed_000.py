from crystallize_opt import BaseOptimizer, Objective
from crystallize_opt import Treatment
from crystallize_opt import Experiment, FrozenContext, Pipeline, data_source, pipeline_step

class GridSearchOptimizer(BaseOptimizer):
    def __init__(self, deltas: list[float], objective: Objective):
        super().__init__(objective)
        self.deltas = deltas
        self._index = 0
        self._scores: list[float] = []

    def ask(self) -> list[Treatment]:
        delta = self.deltas[self._index]
        return [Treatment(name=f"grid_{delta}", apply={"delta": delta})]

    def tell(self, objective_values: dict[str, float]) -> None:
        self._scores.append(next(iter(objective_values.values())))
        self._index += 1

    def get_best_treatment(self) -> Treatment:
        best_idx = min(range(len(self._scores)), key=self._scores.__getitem__)
        return Treatment(name="grid_best", apply={"delta": self.deltas[best_idx]})

@data_source
def initial_data(ctx: FrozenContext) -> list[int]:
    return [1, 2, 3]

@pipeline_step()
def add_delta(data: list[int], ctx: FrozenContext, *, delta: float = 0.0) -> list[int]:
    return [x + delta for x in data]

@pipeline_step()
def record_sum(data: list[int], ctx: FrozenContext):
    ctx.metrics.add("sum", sum(data))
    return data

experiment = Experiment(
    datasource=initial_data(),
    pipeline=Pipeline([add_delta(), record_sum()]),
)

optimizer = GridSearchOptimizer(
    deltas=[0.0, 1.0, 2.0],
    objective=Objective(metric="sum", direction="minimize"),
)

best_treatment = experiment.optimize(
    optimizer,
    num_trials=len(optimizer.deltas),
    replicates_per_trial=1,
)
print(best_treatment.name, best_treatment._apply_value)  # internal representation
