"""Answers what a person said: routes it, has the skill answer, and shows what comes of that.

Invariant: a turn is routed once, and what it was taken for is in the decision log before anything is done about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from actions.road import CannotPlan, Road
from actions.signing import Envelope
from handlers import answers_under_way, decisions
from handlers.card import Part, Text, TextStyle
from handlers.excuses import Excuses
from handlers.live_answer import Closing, Ending, LiveAnswers
from handlers.open_questions import OpenQuestion, OpenQuestions
from handlers.proposing import Proposing
from handlers.reply import Reply
from handlers.router import Goal, Route, Router
from handlers.skill import Ask, Composed, Proposal, Question, Skill, Streamed, listed, what_i_can
from handlers.surface import Surface, SurfaceUnavailable
from handlers.turn import Turn
from handlers.wording import Wording
from inference.handover import INTERRUPTED, Engine, ReplyStream
from inference.model import ModelUnavailable
from inference.purpose import Lane, Purpose
from policies.people import Directory, Person
from policies.residency import ResidencyRule
from records import trace
from records.database import Database, Transaction


@dataclass(frozen=True, slots=True)
class Heard:
    """A message to be answered."""

    turn: Turn
    person: Person
    asker: Envelope
    surface: Surface
    asked: OpenQuestion | None
    """The question that waits for this person here."""


class Answering:
    """What the dialog does with words.

    await answering.answer(Heard(turn, person, envelope, surface, asked))
    """

    def __init__(
        self,
        *,
        database: Database,
        directory: Directory,
        road: Road,
        router: Router,
        engine: Engine,
        skills: Sequence[Skill],
        wording: Wording,
        questions: OpenQuestions,
        residency: ResidencyRule,
        tenant: str,
        live: LiveAnswers,
        proposing: Proposing,
    ) -> None:
        """`tenant` is the organisation that every row and every question to a model is for."""
        self._database = database
        self._directory = directory
        self._road = road
        self._router = router
        self._engine = engine
        self._skills = skills
        self._wording = wording
        self._questions = questions
        self._residency = residency
        self._tenant = tenant
        self._live = live
        self._proposing = proposing

    async def answer(self, heard: Heard) -> None:
        """Answer a message.

        Raises SurfaceUnavailable when the answer did not get through; the turn is then to be heard again.
        """
        route = await self._route(heard)
        excuses = Excuses(self._database, heard.turn.place, has_language_model=self._engine.has_language_model)
        excuses.note(route.engine, route.degraded)
        try:
            match route.goal:
                case Goal.SKILL:
                    await self._ask_the_skill(heard, route, excuses)
                case Goal.STOP:
                    await self._stop(heard)
                case Goal.CLOSE:
                    await self._say(heard, "closed")
                case Goal.NOTHING | Goal.COMMANDS_ONLY:
                    block = "cannot" if route.goal is Goal.NOTHING else "commands_only"
                    introduction = self._wording.say("dialog", block)
                    await heard.surface.post(
                        heard.turn.place, what_i_can(introduction, self._skills, await excuses.due())
                    )
                    await self._note_answered(heard, "Said that it cannot, and what it can")
        except SurfaceUnavailable:
            await excuses.not_told()
            if route.question is not None:
                question = route.question
                await self._database.write(lambda tx: self._questions.put_back(tx, question))
            raise

    async def _route(self, heard: Heard) -> Route:
        engine = self._engine_for(heard, Lane.FAST)
        route = await self._router.route(heard.turn.text, engine=engine, asked=heard.asked)
        if not await self._database.write(lambda tx: self._note_route(tx, heard, route)):
            # Another message answered the question first.
            route = await self._router.route(heard.turn.text, engine=engine)
            await self._database.write(lambda tx: self._note_route(tx, heard, route))
        return route

    def _note_route(self, tx: Transaction, heard: Heard, route: Route) -> bool:
        """Put a route on record, with the question it answers taken; False where that was answered already."""
        if route.question is not None and not self._questions.take(tx, route.question):
            return False
        trace.note(tx, heard.turn.id, "routed", f"By {route.step.replace('_', ' ')}: {route.reason}")
        decisions.note(
            tx,
            heard.turn.id,
            tenant=self._tenant,
            step=route.step,
            prediction=route.prediction,
            confidence=route.confidence,
            reason=route.reason,
            measured=route.measured,
        )
        return True

    async def _ask_the_skill(self, heard: Heard, route: Route, excuses: Excuses) -> None:
        skill = route.skill
        assert skill is not None
        await heard.surface.show_progress(heard.turn.place, skill.progress)
        ask = Ask(
            turn=heard.turn,
            person=heard.person,
            request=route.request,
            words=route.words,
            asker=heard.asker,
            engine=self._engine_for(heard, skill.lane),
            surface=heard.surface,
            road=self._road,
            directory=self._directory,
            skills=listed(self._skills),
        )
        try:
            answer = await skill.answer(ask)
            if isinstance(answer, Proposal):
                excuses.note(answer.engine, answer.degraded)
                await self._proposing.submit(ask, answer, await excuses.due())
                return
        except CannotPlan as refused:
            answer = Reply.text(str(refused))
        except ModelUnavailable:
            answer = Reply.text(self._wording.say("dialog", "unavailable"))
        await self._show(heard, skill, answer, excuses)

    async def _show(
        self, heard: Heard, skill: Skill, answer: Reply | Composed | Streamed | Question, excuses: Excuses
    ) -> None:
        """Show what a skill answered, unless it proposed something."""
        turn, surface = heard.turn, heard.surface
        if isinstance(answer, Streamed):
            closing = self._closing(excuses)
            ending = await self._live.show(turn, heard.person, surface, answer.stream, closing)
            await self._note_answered(heard, f"{_ENDED[ending]} by the skill “{skill.name}”")
            return
        if isinstance(answer, Question):
            await self._wait_for_answer(heard, skill, answer)
            excuses.note(answer.engine, answer.degraded)
            reply = Reply.text(answer.text)
        elif isinstance(answer, Composed):
            excuses.note(answer.engine, answer.degraded)
            reply = answer.reply
        else:
            reply = answer
        notes = (Text(sentence, TextStyle.SUBTLE) for sentence in await excuses.due())
        await surface.post(turn.place, replace(reply, parts=(*reply.parts, *notes)))
        await self._note_answered(heard, f"Answered by the skill “{skill.name}”")

    async def _wait_for_answer(self, heard: Heard, skill: Skill, question: Question) -> None:
        def ask(tx: Transaction) -> None:
            self._questions.ask(tx, heard.turn.place, heard.person.id, skill=skill.name, words=question.words)

        await self._database.write(ask)

    async def _stop(self, heard: Heard) -> None:
        """End what is being written to the person here; without that, what we had asked them."""
        place, person, asked = heard.turn.place, heard.person.id, heard.asked

        def stop(tx: Transaction) -> str:
            if answers_under_way.stop(tx, place, person):
                return "stopping"
            return "closed" if asked is not None and self._questions.take(tx, asked) else "nothing_to_stop"

        await self._say(heard, await self._database.write(stop))

    def _closing(self, excuses: Excuses) -> Closing:
        async def closing(stream: ReplyStream) -> tuple[Part, ...]:
            # That it broke off is said where it broke off.
            excuses.note(stream.engine, stream.degraded if stream.degraded != INTERRUPTED else None)
            by = self._wording.say("dialog", "answered_by", engine=stream.engine)
            return tuple(Text(line, TextStyle.SUBTLE) for line in (by, *await excuses.due()))

        return closing

    def _engine_for(self, heard: Heard, lane: Lane) -> Engine:
        """The engine, asking in this person's name and under the rules for this place."""
        asker = heard.asker
        residency = self._residency.for_request(
            heard.person,
            is_guest=asker.is_guest,
            is_bot=asker.is_bot,
            is_external=asker.is_external,
            place_internal=asker.place_internal,
            direct=heard.turn.place.direct,
        )
        return self._engine.on_behalf_of(
            Purpose(
                tenant=self._tenant,
                account=heard.person.id,
                request_id=heard.turn.id,
                lane=lane,
                residency=residency,
            )
        )

    async def _say(self, heard: Heard, block: str) -> None:
        await heard.surface.post(heard.turn.place, Reply.text(self._wording.say("dialog", block)))
        await self._note_answered(heard, f"Answered “{block.replace('_', ' ')}”")

    async def _note_answered(self, heard: Heard, text: str) -> None:
        def note(tx: Transaction) -> None:
            answers_under_way.end(tx, heard.turn.id)
            trace.note(tx, heard.turn.id, "answered", text)

        await self._database.write(note)


_ENDED = {
    Ending.COMPLETE: "Answered",
    Ending.STOPPED: "Stopped while being answered",
    Ending.UNSEEN: "Given up, because its message could not be changed, while being answered",
    Ending.BROKEN_OFF: "Broken off while being answered",
}
