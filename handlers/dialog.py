"""Hears Turns and takes clicks: knows whose they are, and sees that everyone who spoke or clicked is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from datetime import timedelta

import structlog

from actions.judgement import Judgement
from actions.road import Road
from actions.signing import Envelope, SignOutcome, SignResult
from handlers import approval_card, decisions, deliveries
from handlers.answering import Answering, Heard
from handlers.decisions import Step
from handlers.deliveries import FoundButton, Nonces
from handlers.live_answer import LiveAnswers, Pace
from handlers.open_questions import OpenQuestion, OpenQuestions
from handlers.projector import Projector
from handlers.proposing import Proposing
from handlers.reply import ClickOutcome, Reply
from handlers.router import Router
from handlers.skill import Skill, what_i_can
from handlers.surface import Surface, SurfaceUnavailable
from handlers.turn import Sender, Turn, TurnKind
from handlers.wording import Wording
from inference.handover import Engine
from policies.approvals import Approval, VoteDecision
from policies.people import Directory, Person
from policies.residency import ResidencyRule
from records import trace
from records.database import Database, Transaction
from records.encryption import KeyUnusable

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
        questions: OpenQuestions,
        residency: ResidencyRule,
        pace: Pace | None = None,
    ) -> None:
        """`pace` is how often an answer is shown that is being written."""
        self._database = database
        self._surfaces = surfaces
        self._directory = directory
        self._judgement = judgement
        self._road = road
        self._skills = skills
        self._projector = projector
        self._nonces = nonces
        self._wording = wording
        self._questions = questions
        self._answering = Answering(
            database=database,
            directory=directory,
            road=road,
            router=router,
            engine=engine,
            skills=skills,
            wording=wording,
            questions=questions,
            residency=residency,
            tenant=judgement.tenant,
            live=LiveAnswers(database, wording, pace),
            proposing=Proposing(
                database=database,
                surfaces=surfaces,
                directory=directory,
                judgement=judgement,
                road=road,
                projector=projector,
                nonces=nonces,
                wording=wording,
            ),
        )
        self._drawing: set[asyncio.Task[None]] = set()

    async def hear(self, turn: Turn) -> None:
        """Answer a message, a command or a greeting."""
        if turn.sender.is_bot:
            return
        surface = self._surfaces[turn.place.surface]
        person = self._resolve(turn.sender)
        asked = await self._database.write(lambda tx: self._note_heard(tx, turn, person))
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
            await self._answering.answer(Heard(turn, person, self._envelope(turn, person), surface, asked))
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
        button = await self._find_button(turn, click.nonce)
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

    async def _find_button(self, turn: Turn, nonce: str) -> FoundButton | None:
        """The button of a nonce. A card can be pressed before the platform's answer to our post has been noted: then
        its message is not known yet, and is waited for."""
        button = None
        for _ in range(NOTED_TRIES):
            button = await self._database.write(lambda tx: self._note_click(tx, turn, nonce))
            if button is None or button.delivery.message_id is not None:
                return button
            await asyncio.sleep(NOTED_WITHIN.total_seconds() / NOTED_TRIES)
        return button

    def _note_click(self, tx: Transaction, turn: Turn, nonce: str) -> FoundButton | None:
        button = deliveries.find_button(tx, nonce)
        if button is None or button.delivery.message_id is not None:
            decisions.note(
                tx,
                turn.id,
                tenant=self._judgement.tenant,
                step=Step.CLICK,
                prediction=button.verb if button else None,
                confidence=1.0,
                reason=f"pressed “{button.verb}” on a card" if button else "pressed a button that is none of ours",
            )
        return button

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

    def _what_i_can(self, block: str) -> Reply:
        return what_i_can(self._wording.say("dialog", block), self._skills)

    def _note_heard(self, tx: Transaction, turn: Turn, person: Person | None) -> OpenQuestion | None:
        """Note a turn, and find in the same go what we had asked this person here."""
        trace.note(tx, turn.id, "heard", f"{_HEARD[turn.kind]} on {turn.place.surface.title()} by {_shown(person)}")
        if person is None:
            return None
        try:
            return self._questions.waiting(tx, turn.place, person.id)
        except KeyUnusable:
            # Asked under another key. Whoever speaks now is answered without it; it runs out by itself.
            logger.warning("open_question_not_readable")
            return None

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
