"""Hears Turns and answers them: finds the skill, shows what it says, and takes what it proposes down the road."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import structlog

from actions.judgement import Judgement
from actions.plans import StoredPlan
from actions.road import CannotPlan, Road, Submission
from actions.signing import Envelope, SignOutcome, SignResult
from handlers import approval_card, deliveries
from handlers.card import Bullets, Part, Text, TextStyle
from handlers.deliveries import DeliveryKind, FoundButton, Nonces
from handlers.projector import Projector
from handlers.reply import ClickOutcome, Reply
from handlers.router import Router
from handlers.skill import Ask, Proposal, Skill, listed
from handlers.surface import Surface, SurfaceUnavailable
from handlers.turn import Place, Sender, Turn, TurnKind
from handlers.wording import Wording
from inference.handover import Engine
from policies.approvals import Approval, VoteDecision
from policies.people import Directory, Person
from records import trace
from records.database import Database, Transaction

LONGEST_REASON = 500
"""Characters of a denial's reason that are kept; the field says so."""

NOTED_WITHIN = timedelta(seconds=2)
"""How long after a card appears its message id may take to be noted."""
NOTED_TRIES = 40

logger = structlog.get_logger(__name__)


class Dialog:
    """The listener behind every surface."""

    def __init__(
        self,
        *,
        database: Database,
        surfaces: Mapping[str, Surface],
        directory: Directory,
        judgement: Judgement,
        road: Road,
        router: Router,
        engine: Engine,
        skills: Sequence[Skill],
        projector: Projector,
        nonces: Nonces,
        wording: Wording,
    ) -> None:
        self._database = database
        self._surfaces = surfaces
        self._directory = directory
        self._judgement = judgement
        self._road = road
        self._router = router
        self._engine = engine
        self._skills = skills
        self._projector = projector
        self._nonces = nonces
        self._wording = wording
        self._drawing: set[asyncio.Task[None]] = set()

    async def hear(self, turn: Turn) -> None:
        """Answer a message, a command or a greeting."""
        if turn.sender.is_bot:
            return
        surface = self._surfaces[turn.place.surface]
        person = self._resolve(turn.sender)
        await self._note(turn, "heard", f"{_HEARD[turn.kind]} on {turn.place.surface.title()} by {_shown(person)}")
        if turn.kind is TurnKind.INSTALLED:
            await surface.post(turn.place, self._what_i_can("welcome"))
            return
        if person is None:
            await self._note(turn, "answered", "The account is in no people file")
            await surface.tell_privately(turn.place, turn.sender, Reply.text(self._wording.say("dialog", "stranger")))
            return
        if not turn.text.strip():
            await surface.post(turn.place, self._what_i_can("empty"))
            return
        try:
            await self._answer(turn, person, surface)
        except (SurfaceUnavailable, asyncio.CancelledError):
            raise
        except Exception:
            # Told once and done: what was submitted before the failure is in the database and goes its way.
            logger.exception("answer_failed")
            await self._note(turn, "failed", "Something went wrong while answering")
            await surface.post(turn.place, Reply.text(self._wording.say("dialog", "failed")))

    async def click(self, turn: Turn) -> ClickOutcome:
        """Take a button press on one of our cards."""
        click = turn.click
        if click is None:
            raise ValueError("a click turn carries a click")
        button = await self._find_button(click.nonce)
        if button is None:
            return self._refused_click("unknown_button")
        if not _in_its_place(button, turn):
            await self._note(turn, "refused", "A click on a copy of a card was refused")
            return self._refused_click("copied")
        view = await self._database.read(lambda tx: self._projector.view(tx, button.delivery.plan_id))
        if view is None or view.approval is None:
            return self._refused_click("unknown")
        asker = self._envelope(turn, self._resolve(turn.sender))
        if button.verb == "details":
            if asker.person is None:
                return self._refused_click("not_entitled", reason=self._wording.say("dialog", "stranger"))
            return ClickOutcome("Here is the whole plan.", accepted=False, dialog=approval_card.details(view))
        if button.verb == "deny" and await self._taken_back(view.approval, asker):
            return await self._told(SignOutcome(SignResult.TAKEN_BACK, view.approval), button)
        decision = VoteDecision.DENY if button.verb == "deny" else VoteDecision.APPROVE
        reason = click.inputs.get("reason", "").strip()[:LONGEST_REASON]
        outcome = await self._road.sign(
            view.approval.id, clicker=asker, decision=decision, displayed_digest=button.digest, reason=reason
        )
        return await self._told(outcome, button)

    async def drain(self) -> None:
        """Wait until every card being drawn is drawn."""
        while self._drawing:
            await asyncio.gather(*self._drawing, return_exceptions=True)

    async def _taken_back(self, approval: Approval, clicker: Envelope) -> bool:
        """Whether the click was the requester's own "no", and in time: that is no vote, but the request withdrawn."""
        person = clicker.person
        if person is None or person.id != approval.requester or clicker.is_guest or clicker.is_bot:
            return False
        return await self._road.cancel(approval.id, actor=person.id)

    async def _find_button(self, nonce: str) -> FoundButton | None:
        """The button of a nonce. A card can be pressed before the platform's answer to our post has been noted: then
        its message is not known yet, and is waited for."""
        button = None
        for _ in range(NOTED_TRIES):
            button = await self._database.read(lambda tx: deliveries.find_button(tx, nonce))
            if button is None or button.delivery.message_id is not None:
                return button
            await asyncio.sleep(NOTED_WITHIN.total_seconds() / NOTED_TRIES)
        return button

    async def _answer(self, turn: Turn, person: Person, surface: Surface) -> None:
        route = await self._router.route(turn.text)
        await self._note(turn, "routed", f"By {route.by}: {route.why}")
        if route.skill is None:
            await surface.post(turn.place, self._what_i_can("cannot", note=route.note))
            await self._note(turn, "answered", "Said that it cannot, and what it can")
            return
        await surface.show_progress(turn.place, route.skill.progress)
        ask = Ask(
            turn=turn,
            person=person,
            words=route.words,
            asker=self._envelope(turn, person),
            engine=self._engine,
            surface=surface,
            road=self._road,
        )
        try:
            answer = await route.skill.answer(ask)
            if isinstance(answer, Proposal):
                await self._propose(ask, answer)
                return
        except CannotPlan as refused:
            answer = Reply.text(str(refused))
        if route.note:
            answer = replace(answer, parts=(*answer.parts, Text(route.note, TextStyle.SUBTLE)))
        await surface.post(turn.place, answer)
        await self._note(turn, "answered", f"Answered by the skill “{route.skill.name}”")

    async def _propose(self, ask: Ask, proposal: Proposal) -> None:
        signers_places = await self._places_of_signers(ask, proposal)

        def place_cards(tx: Transaction, plan: StoredPlan, approval: Approval | None) -> None:
            for place, kind in self._where(ask, approval, signers_places):
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
        if proposal.note:
            await ask.surface.post(ask.turn.place, Reply.text(proposal.note))
        await self._projector.project(submission.plan.id)
        await self._note_card(ask.turn, submission)

    def _where(
        self, ask: Ask, approval: Approval | None, signers_places: Sequence[Place]
    ) -> list[tuple[Place, DeliveryKind]]:
        """Which messages a plan has. Buttons go only where the people who may sign can see and press them."""
        asked_in = ask.turn.place
        if approval is None:
            return [(asked_in, DeliveryKind.STATUS)]
        if approval.confirmation or (asked_in.internal and not asked_in.direct):
            return [(asked_in, DeliveryKind.CARD), (asked_in, DeliveryKind.NOTICE)]
        return [
            (asked_in, DeliveryKind.STATUS),
            (asked_in, DeliveryKind.NOTICE),
            *((place, DeliveryKind.CARD) for place in signers_places),
        ]

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

    async def _told(self, outcome: SignOutcome, button: FoundButton) -> ClickOutcome:
        """The click in words, and the card as it is now."""
        plan_id = button.delivery.plan_id
        view = await self._database.read(lambda tx: self._projector.view(tx, plan_id))
        assert view is not None
        accepted = outcome.result in _CHANGED_SOMETHING
        if outcome.result in (SignResult.STALE, SignResult.EXPIRED) or accepted:
            self._start(self._projector.project(plan_id))
        approval = outcome.approval
        text = self._wording.say(
            "clicks",
            outcome.result,
            progress=approval_card.progress(approval) if approval else "",
            reason=outcome.reason,
            how=approval_card.how_decided(view),
            at=approval.expires_at if approval else None,
            why=(approval.remark if approval else None) or "it was changed.",
        )
        digest = view.plan.digest
        card = approval_card.draw(view, lambda verb: self._nonces.nonce(button.delivery.id, verb, digest))
        # Where an answer is either a card or a sentence, a click that changed nothing needs the sentence: the card is
        # redrawn for everybody anyway.
        return ClickOutcome(text, accepted=accepted, card=card if accepted else None)

    def _refused_click(self, block: str, **values: object) -> ClickOutcome:
        return ClickOutcome(self._wording.say("clicks", block, **values), accepted=False)

    def _what_i_can(self, block: str, note: str | None = None) -> Reply:
        parts: list[Part] = [Text(self._wording.say("dialog", block)), Bullets(listed(self._skills))]
        if note:
            parts.append(Text(note, TextStyle.SUBTLE))
        return Reply(parts=tuple(parts))

    def _resolve(self, sender: Sender) -> Person | None:
        return self._directory.resolve(sender.surface, sender.tenant, sender.user)

    def _envelope(self, turn: Turn, person: Person | None) -> Envelope:
        sender = turn.sender
        return Envelope(
            person=person,
            account=f"{sender.surface}:{sender.tenant}/{sender.user}",
            surface=sender.surface,
            is_guest=sender.is_guest,
            is_bot=sender.is_bot,
            is_external=sender.is_external,
            place_internal=turn.place.internal,
        )

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._drawing.add(task)
        task.add_done_callback(self._drawing.discard)

    async def _note(self, turn: Turn, stage: str, text: str) -> None:
        await self._database.write(lambda tx: trace.note(tx, turn.id, stage, text))

    async def _note_card(self, turn: Turn, submission: Submission) -> None:
        approval = submission.approval
        if approval is not None:
            await self._database.write(
                lambda tx: trace.note(tx, turn.id, "card", "Posted the card", approval_id=approval.id)
            )


_CHANGED_SOMETHING = (SignResult.APPROVED, SignResult.SIGNED, SignResult.DENIED, SignResult.TAKEN_BACK)
_HEARD = {
    TurnKind.COMMAND: "Heard a command",
    TurnKind.MENTION: "Heard a mention",
    TurnKind.DIRECT: "Heard a direct message",
    TurnKind.CLICK: "Took a click",
    TurnKind.INSTALLED: "Was added to a conversation",
}


def _in_its_place(button: FoundButton, turn: Turn) -> bool:
    """Whether the click came from the very message the button was put in."""
    place, delivery = turn.place, button.delivery
    assert turn.click is not None
    return (
        place.surface == delivery.place.surface
        and place.tenant.lower() == delivery.place.tenant.lower()
        and place.conversation == delivery.place.conversation
        and delivery.message_id is not None
        and turn.click.message_id == delivery.message_id
    )


def _shown(person: Person | None) -> str:
    return person.name if person is not None else "an unknown account"
