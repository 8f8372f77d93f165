"""Who looks into a shard's memory outside of the engine's operations, and why nobody unmaps it
meanwhile: another thread may, as soon as the shard has moved (`lifecycle.routes.let_go`), and then
the process dies of it. A function that is not listed here has to find its reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import shmmap

PACKAGE = Path(shmmap.__file__).parent
LOOKS = {"mappings", "mapping_of", "distinct", "moved_to", "moved_places", "first_shard"}
INSIDE = "in an operation of a handle, in `_inside`, or marked"
HELD = "`snapshots` is held"
SWEEPS = "of the sweeper, which counts as busy; or else as the ones inside"
ALONE = "no other thread has it yet, or has it any more"
LOCKS = "of the lock shard, which never moves"
CALLERS = "its callers are listed"
FUNCTIONS = {
    "copies.replacing.Copying.bring": "of a map that is being made, which nobody moves",
    "copies.snapshots.take_held": HELD,
    "lifecycle.attachment.Attachment._begin_in_this_process": ALONE,
    "lifecycle.attachment.Attachment.cut_off": "of one that was cut off: the process stops there",
    "lifecycle.attachment.Attachment.map_parts": ALONE,
    "lifecycle.attachment.Attachment.mappings": CALLERS,
    "lifecycle.attachment.Attachment.reserve_deadlines": INSIDE,
    "lifecycle.ephemeral._give_up_memory": ALONE,
    "lifecycle.event_ring.look_at_evictions": "of the sweeper, or in an operation",
    "lifecycle.half_replaced._holder": HELD,
    "lifecycle.left_behind.renew": ALONE,
    "lifecycle.places.Places.moved_places": CALLERS,
    "lifecycle.routes._open_range": "in an operation that found the shard moved; or held",
    "lifecycle.routes.first_shard": HELD,
    "lifecycle.routes.let_go": HELD,
    "lifecycle.stats.gather": INSIDE,
    "lifecycle.sweeper.Sweeper._can_be_had": SWEEPS,
    "lifecycle.sweeper.Sweeper.sweep": SWEEPS,
    "locks.holdings.describe_holder": LOCKS,
    "locks.lock_table.LockShard.can_be_had": LOCKS,
    "moving.changing._forget_tracking": INSIDE,
    "moving.group.GroupMover._publish": INSIDE,
    "moving.group.GroupMover._yield_to_snapshots": INSIDE,
    "moving.observing.observe": SWEEPS,
    "moving.wish.plan_wish": SWEEPS,
    "operations.messages.describe_wait": INSIDE,
    "torture.chaos.Chaos._owners": INSIDE,
    "torture.maps.Maps.is_held_by": INSIDE,
    "torture.witnesses.Witness.holders": INSIDE,
    "torture.witnesses.count": CALLERS,
}


def looks() -> Iterator[tuple[str, str]]:
    """Find them: the function, and what it uses."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[-1].endswith("_cy") or parts[0] == "testing":
            continue
        tree = ast.parse(path.read_text())
        yield from _in(tree, ".".join(parts))


def _in(node: ast.AST, where: str) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _in(child, f"{where}.{child.name}")
        else:
            if isinstance(child, ast.Attribute) and (child.attr in LOOKS or _is_owner(child)):
                yield where, child.attr
            yield from _in(child, where)


def _is_owner(node: ast.Attribute) -> bool:
    """Tell whether it is `....lock.owner`."""
    return node.attr == "owner" and isinstance(node.value, ast.Attribute) and (
        node.value.attr == "lock")


def test_each_has_its_reason() -> None:
    found = {function for function, _ in looks()}
    assert found - set(FUNCTIONS) == set(), "who keeps others from unmapping what these look at?"
    assert set(FUNCTIONS) - found == set(), "these are no more"
