"""Brings every card and notice up to date with the database. Redrawing is idempotent; the row is the truth.

Invariant: one process at a time draws a delivery, and it notes the version it drew, so the last drawing is never an
old one. What a platform refused stays due in the outbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from actions import executions, plans
from actions.judgement import Judgement
from handlers import deliveries
from handlers.approval_card import PlanView, draw
from handlers.card import Link, Mention, Part, Text, TextStyle
from handlers.deliveries import Delivery, DeliveryKind, Nonces
from handlers.reply import Reply
from handlers.surface import Surface, SurfaceUnavailable
from policies import approvals
from policies.people import Directory
from records import outbox
from records.database import Database, Transaction

ROUNDS = 5
"""Redraws in one go while a plan keeps changing; the outbox takes it from there."""

logger = structlog.get_logger(__name__)


class Projector:
    """Draws plans where they are to be seen.

    await projector.project(plan_id)     # after a transition; never raises for a platform that is away
    await projector.sweep()              # what earlier tries left behind
    """

    def __init__(
        self,
        database: Database,
        surfaces: Mapping[str, Surface],
        judgement: Judgement,
        directory: Directory,
        nonces: Nonces,
    ) -> None:
        self._database = database
        self._surfaces = surfaces
        self._judgement = judgement
        self._directory = directory
        self._nonces = nonces

    def view(self, tx: Transaction, plan_id: str) -> PlanView | None:
        """All that a card of a plan shows."""
        plan = plans.find(tx, plan_id)
        if plan is None:
            return None
        approval = approvals.of_plan(tx, plan_id)
        return PlanView(
            plan=plan,
            approval=approval,
            execution=executions.of_plan(tx, plan_id),
            signers=self._judgement.signers(approval) if approval is not None else (),
            name_of=self._name_of,
        )

    async def project(self, plan_id: str) -> None:
        """Bring all deliveries of a plan up to date."""
        for _ in range(ROUNDS):
            seen, view, behind = await self._database.write(lambda tx: self._claim(tx, plan_id))
            if view is None:
                return
            drawn = await asyncio.gather(*(self._draw(view, delivery) for delivery in behind))
            if not all(drawn):
                return
            if not behind:
                await self._settle(plan_id, view, seen)
                return

    async def sweep(self, *, limit: int = 20) -> int:
        """Take up plans whose deliveries are behind; returns how many."""
        due = await self._database.write(lambda tx: outbox.take_due(tx, outbox.PROJECT, limit=limit))
        await asyncio.gather(*(self.project(order.subject) for order in due))
        return len(due)

    def _claim(self, tx: Transaction, plan_id: str) -> tuple[int | None, PlanView | None, list[Delivery]]:
        seen = outbox.generation(tx, outbox.PROJECT, plan_id)
        view = self.view(tx, plan_id)
        if view is None:
            return seen, None, []
        behind = deliveries.claim_behind(tx, plan_id, view.plan.version, with_notices=view.final)
        return seen, view, behind

    async def _settle(self, plan_id: str, view: PlanView, seen: int | None) -> None:
        def settle(tx: Transaction) -> None:
            outstanding = [
                delivery
                for delivery in deliveries.of_plan(tx, plan_id)
                if delivery.shown_version < view.plan.version
                and (delivery.kind is not DeliveryKind.NOTICE or (view.final and not delivery.shown_version))
            ]
            if seen is not None and not outstanding:
                outbox.finish(tx, outbox.PROJECT, plan_id, seen)

        await self._database.write(settle)

    async def _draw(self, view: PlanView, delivery: Delivery) -> bool:
        surface = self._surfaces.get(delivery.place.surface)
        if surface is None:
            logger.warning("surface_not_configured", surface=delivery.place.surface)
            return False
        reply, marker = self._picture(view, delivery)
        try:
            message_id = delivery.message_id
            if message_id is None and delivery.interrupted:
                message_id = await self._recognise(surface, delivery, marker)
            if delivery.ref is not None:
                await surface.update(delivery.ref, reply)
            elif message_id is None:
                message_id = (await surface.post(delivery.place, reply)).message_id
        except SurfaceUnavailable as error:
            logger.warning("card_not_drawn", surface=surface.name, reason=str(error))
            await self._database.write(lambda tx: deliveries.not_shown(tx, delivery.id))
            return False
        assert message_id is not None
        # A message recognised after a crash shows an unknown state: noting version 0 has it drawn again.
        version = view.plan.version if delivery.message_id or not delivery.interrupted else 0
        if delivery.kind is DeliveryKind.NOTICE:
            version = view.plan.version
        await self._database.write(lambda tx: deliveries.shown(tx, delivery.id, version, message_id))
        return True

    def _picture(self, view: PlanView, delivery: Delivery) -> tuple[Reply, str]:
        if delivery.kind is DeliveryKind.NOTICE:
            marker = f"Result of {view.reference}"
            return Reply(parts=(*self._notice(view, delivery), Text(f"{marker}.", TextStyle.SUBTLE))), marker
        with_buttons = delivery.kind is DeliveryKind.CARD
        digest = view.plan.digest
        card = draw(view, (lambda verb: self._nonces.nonce(delivery.id, verb, digest)) if with_buttons else None)
        return Reply(card=card), view.reference

    def _notice(self, view: PlanView, delivery: Delivery) -> list[Part]:
        card = draw(view, None)
        requester = self._directory.person(view.plan.plan().requester)
        parts: list[Part] = []
        account = next(
            (
                identity.user
                for identity in (requester.identities if requester else ())
                if identity.surface == delivery.place.surface
                and identity.tenant.lower() == delivery.place.tenant.lower()
            ),
            None,
        )
        if requester is not None and account is not None:
            parts.append(Mention(account, requester.name))
        execution = view.execution
        text = execution.message if execution is not None and execution.message else ""
        reason = view.approval.remark if view.approval is not None else None
        if not text and reason:
            text = f"Reason: {reason}"
        parts.append(Text(f"{card.title}. {text}".strip()))
        if execution is not None:
            parts += [Link(f"Open {result['record']}", str(result["url"])) for result in execution.results]
        return parts

    async def _recognise(self, surface: Surface, delivery: Delivery, marker: str) -> str | None:
        """Our own post, found again after a crash between posting and noting it."""
        messages = await surface.read_thread(delivery.place)
        return next((m.id for m in reversed(messages) if m.from_assistant and marker in m.text), None)

    def _name_of(self, person_id: str) -> str:
        person = self._directory.person(person_id)
        return person.name if person is not None else person_id
