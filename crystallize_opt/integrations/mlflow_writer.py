"""Writes to MLflow, in order, and later what MLflow could not take."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import MAX_METRICS_PER_BATCH, MAX_PARAMS_TAGS_PER_BATCH

from crystallize_opt.errors import printable
from crystallize_opt.integrations.mlflow_names import as_params, original_names, safe_name
from crystallize_opt.pipeline.context import logger
from crystallize_opt.trials.curves import Curve


class Writer:
    """What is to be recorded of one search, and failures of MLflow.

    Args:
        client: MLflow's client.

    Attributes:
        to_do: What is to be recorded, in order; a call that raises is repeated.
        is_off: Whether MLflow refuses the search's run, so that nothing can be recorded.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self.to_do: deque[Callable[[], object]] = deque()
        self.forget()

    def forget(self) -> None:
        """Forget the search before."""
        self.to_do.clear()
        self._not_before = 0.0
        self._has_warned = False
        self.is_off = False

    def work(self, has_run: Callable[[], object], *, is_last: bool) -> None:
        """Do what is to be done, in order, until MLflow fails.

        A client of MLflow may try for minutes to reach a server. After a failure, try again when
        ten times that time has passed, so that a search without a server loses a tenth of its time.

        Args:
            has_run: Whether the search has a run by now. If MLflow refuses that one, all is over.
            is_last: Whether the search has ended, so that there is no later time.
        """
        began = time.monotonic()
        if began < self._not_before and not is_last:
            return
        while self.to_do:
            try:
                self.to_do[0]()
            except Exception as error:  # noqa: BLE001  (MLflow lets through errors of its libraries)
                self.warn(error)
                if not _is_refusal(error):
                    now = time.monotonic()
                    self._not_before = now + 10 * (now - began)
                    break
                if not has_run():
                    self.is_off = True
                    self.to_do.clear()
                    break
            self.to_do.popleft()
        if is_last and self.to_do:
            lost = len(self.to_do)
            logger.warning("MLflow still fails: %d records of the search are missing.", lost)
            end = self.to_do.pop()
            self.to_do.clear()
            if lost > 1 and has_run():  # Something else failed; no run is to stay open.
                with suppress(Exception):
                    end()

    def warn(self, error: Exception) -> None:
        """Log the first error of a search."""
        if not self._has_warned:
            self._has_warned = True
            what = "refuses a record" if _is_refusal(error) else "fails"
            why = f"{type(error).__name__}: {printable(error)}"
            logger.warning("MLflow %s, and the search continues: %s", what, why)

    def log(
        self,
        run: str,
        metrics: Mapping[str, float] | None = None,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
        *,
        step: int = 0,
        curves: Mapping[str, Curve] | None = None,
    ) -> None:
        """Log to a run, in as few calls as MLflow allows. What MLflow refuses is left out.

        The value of a metric with a curve gets the curve's highest step, at a later time: MLflow
        shows the value at the highest step, and of several there the latest.
        """
        logged, more = as_params(params or {})
        now = int(1000 * time.time())
        curves = curves or {}
        last = {name: max(step for step, _ in curve) for name, curve in curves.items()}
        values = [
            Metric(safe_name(name), value, now - 1, point)
            for name, curve in curves.items()
            for point, value in curve
        ]
        values += [
            Metric(safe_name(name), value, now, last.get(name, step))
            for name, value in (metrics or {}).items()
        ]
        for some in _chunks(values, MAX_METRICS_PER_BATCH):
            self._log_batch(run, metrics=some)
        for some in _chunks([Param(*pair) for pair in logged.items()], MAX_PARAMS_TAGS_PER_BATCH):
            self._log_batch(run, params=some)
        texts = {**(tags or {}), **more, **original_names([*(metrics or {}), *curves])}
        for some in _chunks([RunTag(*pair) for pair in texts.items()], MAX_PARAMS_TAGS_PER_BATCH):
            self._log_batch(run, tags=some)

    def _log_batch(self, run: str, **batch: Any) -> None:
        try:
            self._client.log_batch(run, **batch)
        except MlflowException as error:
            if not _is_refusal(error):
                raise
            self.warn(error)


def _is_refusal(error: Exception) -> bool:
    """Whether MLflow works, but will always refuse this record."""
    if not isinstance(error, MlflowException):
        return False
    code: int = error.get_http_status_code()  # type: ignore[no-untyped-call]
    return 400 <= code < 500 and code not in (408, 429)


def _chunks(entries: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(entries), size):
        yield entries[start : start + size]
