"""Takes what a skill proposes down the road, and sees to it that its cards appear where the people who may sign are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from actions.judgement import Judgement
from actions.plans import StoredPlan
from actions.road import CannotPlan, Road
from handlers import deliveries
from handlers.deliveries import DeliveryKind, Nonces
from handlers.projector import Projector
from handlers.reply import Reply
from handlers.skill import Ask, Proposal
from handlers.surface import Surface, SurfaceUnavailable
from handlers.turn import Place, Sender
from handlers.wording import Wording
from policies.approvals import Approval
from policies.people import Directory, Person
from records import trace
from records.database import Database, Transaction

logger = structlog.get_logger(__name__)


class Proposing:
    """Submits proposals.

    await proposing.submit(ask, proposal, excuses)
    """

    def __init__(
        self,
        *,
        database: Database,
        surfaces: Mapping[str, Surface],
        directory: Directory,
        judgement: Judgement,
        road: Road,
        projector: Projector,
        nonces: Nonces,
        wording: Wording,
    ) -> None:
        self._database = database
        self._surfaces = surfaces
        self._directory = directory
        self._judgement = judgement
        self._road = road
        self._projector = projector
        self._nonces = nonces
        self._wording = wording

    async def submit(self, ask: Ask, proposal: Proposal, excuses: Sequence[str]) -> None:
        """Propose a plan and draw its cards. `excuses` is what the person is told before them.

        Raises CannotPlan with a sentence for the person.
        """
        signers_places = await self._places_of_signers(ask, proposal)

        def place_cards(tx: Transaction, plan: StoredPlan, approval: Approval | None) -> None:
            for place, kind in _where(ask.turn.place, approval, signers_places):
                deliveries.add(tx, self._nonces, plan_id=plan.id, digest=plan.digest, kind=kind, place=place)

        submission = await self._road.submit(
            proposal.calls,
            asker=ask.asker,
            request_id=ask.turn.id,
            reason=proposal.reason,
            also=place_cards,
        )
        if submission.plan is None:
            reasons = " ".join(submission.decision.reasons)
            await ask.surface.post(ask.turn.place, Reply.text(self._wording.say("dialog", "refused", reasons=reasons)))
            return
        if excuses:
            await ask.surface.post(ask.turn.place, Reply.text(" ".join(excuses)))
        await self._projector.project(submission.plan.id)
        approval = submission.approval
        if approval is not None:
            await self._database.write(
                lambda tx: trace.note(tx, ask.turn.id, "card", "Posted the card", approval_id=approval.id)
            )

    async def _places_of_signers(self, ask: Ask, proposal: Proposal) -> list[Place]:
        """One-to-one conversations with the people who may sign, needed when the request was not made in a channel."""
        if ask.turn.place.internal and not ask.turn.place.direct:
            return []
        decision = self._judgement.decide(
            [call.action for call in proposal.calls],
            tenant=self._judgement.tenant,
            requester=ask.person,
            is_guest=ask.asker.is_guest,
            is_bot=ask.asker.is_bot,
            is_external=ask.asker.is_external,
            place_internal=ask.asker.place_internal,
        )
        people = {
            person.id: person
            for needed in decision.requirement
            for person in self._directory.members(needed.group)
            if person.id != ask.person.id
        }
        found = await asyncio.gather(*(self._place_of(person, ask) for person in people.values()))
        places = [place for place in found if place is not None]
        if people and not places:
            raise CannotPlan(
                "I could not reach anybody who may approve this. Nothing was asked or done; please ask again in a "
                "channel they are in."
            )
        return places

    async def _place_of(self, person: Person, ask: Ask) -> Place | None:
        here = ask.turn.place
        accounts = sorted(
            person.identities,
            key=lambda account: (account.surface != here.surface, account.tenant.lower() != here.tenant.lower()),
        )
        for account in accounts:
            surface = self._surfaces.get(account.surface)
            if surface is None:
                continue
            try:
                return await surface.direct_place(Sender(account.surface, account.tenant, account.user, person.name))
            except SurfaceUnavailable as error:
                logger.warning("signer_not_reached", surface=account.surface, reason=str(error))
        return None


def _where(
    asked_in: Place, approval: Approval | None, signers_places: Sequence[Place]
) -> list[tuple[Place, DeliveryKind]]:
    """Which messages a plan has. Buttons go only where the people who may sign can see and press them."""
    if approval is None:
        return [(asked_in, DeliveryKind.STATUS)]
    if approval.confirmation or (asked_in.internal and not asked_in.direct):
        return [(asked_in, DeliveryKind.CARD), (asked_in, DeliveryKind.NOTICE)]
    return [
        (asked_in, DeliveryKind.STATUS),
        (asked_in, DeliveryKind.NOTICE),
        *((place, DeliveryKind.CARD) for place in signers_places),
    ]
