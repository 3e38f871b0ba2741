"""Steps that train epoch by epoch, and continue from their checkpoint.

A worker process imports this module, and so not SMAC.
"""

from __future__ import annotations

from typing import Any

from crystallize_opt import FrozenContext


def train(data: Any, ctx: FrozenContext, *, x: float, epochs: int) -> Any:
    """Write every epoch into the checkpoint, one after the other."""
    return data, train_in(ctx, x, epochs)


async def train_asynchronously(data: Any, ctx: FrozenContext, *, x: float, epochs: int) -> Any:
    return data, train_in(ctx, x, epochs)


def train_in(ctx: FrozenContext, x: float, epochs: int) -> dict[str, float]:
    path = ctx.checkpoint / f"of {x!r} and {ctx['replicate']}"
    known = path.read_text() if path.exists() else ""
    for epoch in range(len(known), epochs):
        with path.open("a") as file:
            file.write(chr(ord("a") + epoch % 26))
        on_epoch(epoch)
    assert sum(1 for _ in ctx.checkpoint.iterdir()) == 1  # Nothing of another trial is there.
    return {"loss": (x - 0.3) ** 2 + 1 / epochs, "trained": epochs - len(known)}


def on_epoch(epoch: int) -> None:
    """Replaced by tests that end a trial in the middle of its work."""
