"""The sweep: closes what is overdue and hints at executions that nobody took.

This, not the queue, is why nothing is lost: it reads the rows. Any number of processes may sweep.
"""

from __future__ import annotations

import asyncio

from actions import executions, plans
from actions.hints import Hints
from policies import approvals
from records import outbox, trace
from records.database import Database, Transaction


class Sweep:
    """One pass over what is due.

    await sweep.once()
    """

    def __init__(self, database: Database, hints: Hints) -> None:
        self._database = database
        self._hints = hints

    async def once(self) -> int:
        """Expire, then hint within the room the queue has; returns how many hints were sent."""
        room = await asyncio.to_thread(self._hints.room)
        due = await self._database.write(lambda tx: self._take(tx, room))
        sent = 0
        for order in due:
            sent += await asyncio.to_thread(self._hints.send, order.subject)
        return sent

    def _take(self, tx: Transaction, room: int) -> list[outbox.Due]:
        for approval in approvals.expire_due(tx):
            plan = plans.find(tx, approval.plan_id)
            plans.touch(tx, approval.plan_id)
            if plan is not None:
                trace.note(
                    tx, plan.request_id, "expired", "Nobody decided in time; nothing was done", approval_id=approval.id
                )
        executions.expire_unstarted(tx)
        return outbox.take_due(tx, outbox.EXECUTE, limit=room)
