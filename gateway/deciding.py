"""The admin API's way to the desk: each change that it offers, and who carries it out."""

from __future__ import annotations

from gateway.admin.decisions import Decisions
from gateway.desk import Desk, page
from gateway.desk.annotations import AnnotationDesk, for_grafana
from gateway.desk.budgets import BudgetDesk
from gateway.desk.keys import KeyDesk
from gateway.desk.log import LogDesk


def decisions(desk: Desk) -> Decisions:
    """All of them."""
    keys, budgets, annotations, log = KeyDesk(desk), BudgetDesk(desk), AnnotationDesk(desk), LogDesk(desk)
    return Decisions(
        mode=lambda: keys.mode,
        keys=keys.rows,
        create_key=keys.create,
        rotate_key=keys.rotate,
        revoke_key=keys.revoke,
        set_budget=budgets.set,
        unset_budget=budgets.unset,
        reset_budget=budgets.reset,
        annotations=annotations.rows,
        for_grafana=for_grafana,
        annotate=annotations.add,
        remove_annotation=annotations.remove,
        changes=log.rows,
        page=page,
    )
