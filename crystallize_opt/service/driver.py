"""The service in this process, for SigOpt's client: `Connection(driver=Driver, ...)`."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from crystallize_opt.runtime.extras import needs
from crystallize_opt.service.handler import Handler
from crystallize_opt.service.live import Settings
from crystallize_opt.service.service import Service


class Driver:
    """Answers SigOpt's client without a server.

    Args:
        storage: The SQLite file, created if it does not exist; None to keep everything in memory.
        optimizer: The name of the optimizer, unless an experiment names one in its metadata.
        **settings: The other fields of `Settings`.

    Example:
        >>> driver = Driver(optimizer="RandomOptimizer")
        >>> experiment = driver.request("POST", ["experiments"], {
        ...     "name": "Franke",
        ...     "parameters": [{"name": "x", "type": "double", "bounds": {"min": 0, "max": 1}}],
        ...     "metrics": [{"name": "height"}],
        ... }, None)
        >>> experiment["id"], experiment["progress"]["observation_count"]
        ('1', 0)
        >>> driver.close()
    """

    def __init__(
        self,
        storage: str | os.PathLike[str] | None = None,
        *,
        optimizer: str = Settings().optimizer,
        **settings: Any,
    ) -> None:
        self.handler = Handler(Service(storage, Settings(optimizer, **settings)))
        self._end = weakref.finalize(self, self.handler.close)

    def request(
        self, method: str, path: Sequence[Any], data: Any, headers: Mapping[str, str] | None
    ) -> Any:
        """Answer a request of the client.

        Raises:
            sigopt.exception.ApiException: The request is refused.
        """
        from crystallize_opt.service.plain import as_plain

        parts, plain = [str(part) for part in path], as_plain(data or {})
        if method.upper() == "POST" and parts == ["experiments"] and plain.get("name") is None:
            plain["name"] = "experiment"  # The hosted service asked for one; its driver did not.
        reply = self.handler.handle(method, parts, plain)
        if reply.status >= 400:
            with needs("The driver needs", "sigopt"):
                from sigopt.exception import ApiException
            raise ApiException(reply.body, reply.status)
        skip = (headers or {}).get("X-Response-Content") == "skip"
        return None if skip else as_plain(reply.body)  # A copy, which the caller may change.

    def close(self) -> None:
        """Finish what was begun, and close the file. A second call does nothing."""
        self._end()
