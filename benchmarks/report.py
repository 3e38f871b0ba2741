"""How long the report of a long run takes, and how large it is: `python benchmarks/report.py`."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

from crystallize_opt import History, Objective, Observation, SearchSpace, Treatment, report

SPACE = SearchSpace({**{f"x{i}": (0.0, 1.0) for i in range(4)}, "kind": ["a", "b", "c"]})
LOSS = Objective("loss", "minimize")


def main(trials: int = 10_000) -> None:
    """Print the median of three reports of the same run."""
    points = [SPACE.sample(seed) for seed in range(trials)]
    history = History(
        [
            Observation(
                Treatment(f"trial_{n}", point),
                {"loss": point["x0"] ** 2 + point["x1"]},
                started_at=float(n),
                duration=0.9,
            )
            for n, point in enumerate(points)
        ],
        [LOSS],
        space=SPACE,
    )
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "report.html")
        for _ in range(3):
            start = time.perf_counter()
            report(history, path)
            seconds.append(time.perf_counter() - start)
        size = path.stat().st_size / 1000
    print(
        f"{trials} trials: {median(seconds):.1f} s (aim: under 5), {size:.0f} kB (aim: under 1000)"
    )


if __name__ == "__main__":
    main()
