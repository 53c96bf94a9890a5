"""Questions asked back, answers while they are written, Stop, and a language model that comes and goes: on both
platforms and both databases, with a local server in the language model's place."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta

import pytest
import pytest_asyncio
from sqlalchemy import select

from bot.workbench.credentials import SLACK_TEAM
from bot.workbench.slack_web import Fault as SlackFault
from handlers import answers_under_way, decisions
from handlers.decisions import Decision
from handlers.open_questions import LIFETIME, OpenQuestions, open_questions
from handlers.turn import Place
from inference.handover import AWAY, INTERRUPTED
from inference.purpose import Lane
from records.inbox import LEASE
from tests.doubles.model_server import DEFAULT_ANSWERS, Fault, ModelServer
from tests.postgres import postgres_url
from tests.scenarios.conftest import short_folder
from tests.scenarios.house import AMIR, ROSA, House, Seat, shown, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

TOTAL_S = 5.0
LIMITS = {
    "VLLM_FIRST_TOKEN_SECONDS": "1",
    "VLLM_BETWEEN_TOKENS_SECONDS": "1.5",
    "VLLM_TOTAL_SECONDS": str(TOTAL_S),
}
ANSWER = "The release is on Thursday, because the tests were red."
BEFORE_THE_FIRST_WORD = {
    Fault.REFUSING, Fault.BUSY, Fault.SLOW_FIRST_BYTE, Fault.SLOW_FIRST_TOKEN, Fault.ONLY_COMMENTS, Fault.ERROR_EVENT,
    Fault.EMPTY_ANSWER, Fault.RENAMED, Fault.SERVER_ERROR,
}  # fmt: skip
MIDWAY = {
    Fault.STALL, Fault.MALFORMED_CHUNK, Fault.FOREIGN_CHUNK, Fault.EARLY_END, Fault.EARLY_DONE,
    Fault.BROKEN_CONNECTION, Fault.ERROR_EVENT_MIDWAY,
}  # fmt: skip


class TalkingHouse(House):
    """A house whose language model a local server plays."""

    def __init__(self, *args: object, model: ModelServer, variables: Mapping[str, str] | None = None, **more: object):
        settings = {"VLLM_BASE_URL": model.url, "VLLM_MODEL": "tiny", **LIMITS, **(variables or {})}
        super().__init__(*args, variables=settings, **more)  # type: ignore[arg-type]
        self.model = model

    async def model_is_back(self) -> None:
        """Wait until the engine has noticed that the server answers."""
        tier = self.web.conversation.engine.tiers[Lane.FAST]
        await until(lambda: not tier.away)


class Thread:
    """One thread of the channel, from one person's seat. It begins with the first thing said."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self.root: str | None = None
        self._said: list[str] = []

    async def say(self, words: str) -> None:
        """Address the assistant."""
        before = {message.id for message in self.seat.seen()}
        await self.seat.say(f"@Countersign {words}", thread=self.root)
        if self.root is None:
            mine = (message for message in self.seat.seen() if not message.from_assistant)
            self.root = next(message.id for message in mine if message.id not in before)

    def answers(self) -> list[str]:
        """What the assistant shows in the thread, oldest first."""
        return [shown(each) for each in self.seat.seen() if each.from_assistant and each.thread == self.root]

    async def sees(self, *words: str, times: int = 1) -> str:
        """The newest of at least so many answers that show all the words, waiting for them."""
        found: list[str] = await until(
            lambda: (
                (found := [each for each in self.answers() if all(word in each for word in words)])[times - 1 :]
                and found
            ),
            why=lambda: (
                f"{self.seat.name}: never saw {words} {times} times; saw {[each[:300] for each in self.answers()]}"
            ),
        )
        return found[-1]


async def log_of(house: House) -> list[Decision]:
    return await house.web.core.database.read(lambda tx: decisions.recent(tx, 5000))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _talking(
    request: pytest.FixtureRequest, database_url: str | None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[TalkingHouse]:
    async with ModelServer() as server:
        # A database of its own: in the other one a house lives already.
        if database_url is None:
            running = TalkingHouse(short_folder(tmp_path_factory), model=server)
            await running.start(worker=False)
            yield running
            await running.stop()
            return
        with postgres_url(tmp_path_factory) as url:
            running = TalkingHouse(short_folder(tmp_path_factory), model=server, database_url=url)
            await running.start(worker=False)
            yield running
            await running.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def talking(_talking: TalkingHouse) -> AsyncIterator[TalkingHouse]:
    """A house with a language model that is well and knows one answer."""
    model = _talking.model
    model.fault = None
    model.answers = {**DEFAULT_ANSWERS, "reply": ANSWER}
    await _talking.model_is_back()
    await _talking.web.conversation.intents.warm()
    await model.idle()
    yield _talking


@pytest.fixture
def thread(house: House, platform: str) -> Thread:
    """A thread in the house without a language model."""
    return Thread(Seat(house, platform, ROSA))


@pytest.fixture
def talk(talking: TalkingHouse, platform: str) -> Thread:
    """A thread in the house with one."""
    return Thread(Seat(talking, platform, ROSA))


async def test_a_skill_asks_back_and_the_answer_completes_the_request(house: House, thread: Thread) -> None:
    await thread.say("create a ticket")
    await thread.sees("What should the ticket say?")
    await thread.say("the shredder eats everything, high priority")
    await thread.sees("Create a ticket", "shredder")
    newest = (await log_of(house))[0]
    assert (newest.step, newest.prediction, newest.confidence) == ("follow_up", "create a ticket", 1.0)


async def test_the_ticket_to_close_is_asked_for_and_a_bare_number_names_it(house: House, thread: Thread) -> None:
    ticket = await house.new_ticket("A tap drips")
    await thread.say("close the ticket")
    await thread.sees("Which ticket should I close?")
    await thread.say(ticket.removeprefix("TCK-"))
    await thread.sees("Approval needed", ticket, "A tap drips")
    assert house.tickets()[ticket][0] == "open"


async def test_in_a_direct_message_a_question_is_asked_and_answered_too(house: House, platform: str) -> None:
    rosa = Seat(house, platform, ROSA)
    await rosa.say("create ticket", direct=True)
    await rosa.sees("What should the ticket say?", direct=True)
    await rosa.say("the door squeaks in a minor key", direct=True)
    await rosa.sees("Create a ticket", "minor key", direct=True)


async def test_what_is_no_answer_is_routed_as_usual_and_leaves_the_question_open(house: House, thread: Thread) -> None:
    ticket = await house.new_ticket("A window sticks")
    await thread.say("close")
    await thread.sees("Which ticket should I close?")
    await thread.say("help")
    await thread.sees("Ask in plain words")
    await thread.say("book me a flight to Paris on Friday")
    await thread.sees("I can't do that")
    await thread.say(f"{ticket} please")
    await thread.sees("Approval needed", ticket)


async def test_somebody_else_in_the_thread_does_not_answer_for_the_person_asked(
    house: House, platform: str, thread: Thread
) -> None:
    await thread.say("create a ticket")
    await thread.sees("What should the ticket say?")
    amir = Thread(Seat(house, platform, AMIR))
    amir.root = thread.root
    await amir.say("purple elephants sing loudly")
    await thread.sees("I can't do that")
    await thread.say("the heater rattles all night")
    await thread.sees("Create a ticket", "heater rattles")


async def test_never_mind_drops_the_question_with_a_word(thread: Thread) -> None:
    await thread.say("create a ticket")
    await thread.sees("What should the ticket say?")
    await thread.say("never mind")
    await thread.sees("I have dropped it")
    await thread.say("purple elephants sing loudly")
    await thread.sees("I can't do that")
    assert not any("digest" in each for each in thread.answers()), "no plan was made"


async def test_of_two_answers_at_the_same_time_one_is_the_answer(house: House, thread: Thread) -> None:
    await thread.say("create a ticket")
    await thread.sees("What should the ticket say?")
    before = len(await log_of(house))
    await asyncio.gather(thread.say("purple elephants sing loudly"), thread.say("green giraffes dance slowly"))
    await thread.sees("I can't do that")
    await thread.sees("Create a ticket", "digest")
    steps = [each.step for each in (await log_of(house))[: len(await log_of(house)) - before]]
    assert sorted(steps) == ["embeddings", "follow_up"]


async def test_after_a_quarter_of_an_hour_nobody_waits_for_the_answer(own_house: House, platform: str) -> None:
    # A house whose clock nobody else reads.
    await own_house.start(worker=False)
    thread = Thread(Seat(own_house, platform, ROSA))
    await thread.say("create a ticket")
    await thread.sees("What should the ticket say?")
    own_house.let_pass(LIFETIME + timedelta(seconds=1))
    await thread.say("purple elephants sing loudly")
    await thread.sees("I can't do that")
    questions = OpenQuestions(own_house.web.core.cipher)
    assert await own_house.web.core.database.write(questions.forget_expired) >= 1


async def test_a_question_outlives_a_restart(own_house: House, platform: str) -> None:
    await own_house.start(worker=False)
    thread = Thread(Seat(own_house, platform, ROSA))
    await thread.say("create a ticket")
    await thread.sees("What should the ticket say?")
    await own_house.stop_web()
    await own_house.start_web()
    await thread.say("the lift stops between floors")
    await thread.sees("Create a ticket", "lift stops")


async def test_an_answer_that_could_not_be_shown_is_heard_again_as_the_answer_it_was(own_house: House) -> None:
    await own_house.start(worker=False)
    house = own_house
    thread = Thread(Seat(house, "slack", ROSA))
    await thread.say("ask")
    await thread.sees("What would you like to know?")
    house.slack.web.fail("chat.postMessage", SlackFault(times=1))
    before = len(await log_of(house))
    await thread.say("purple elephants sing loudly")
    questions = OpenQuestions(house.web.core.cipher)
    root = thread.root
    assert root is not None
    place = Place("slack", SLACK_TEAM, thread.seat.room(), thread=root)

    async def heard_and_put_back() -> bool:
        waiting = await house.web.core.database.read(lambda tx: questions.waiting(tx, place, ROSA.id))
        return waiting is not None and len(await log_of(house)) > before

    await until(heard_and_put_back)
    house.let_pass(LEASE + timedelta(seconds=1))
    await thread.sees("Answered by the offline engine")


async def test_an_open_question_under_another_key_silences_nobody(house: House, thread: Thread) -> None:
    await thread.say("create a ticket")
    await thread.sees("What should the ticket say?")
    await house.web.core.database.write(lambda tx: tx.execute(open_questions.update().values(words=b"another key")))
    await thread.say("help")
    await thread.sees("Ask in plain words")
    await house.web.core.database.write(lambda tx: tx.execute(open_questions.delete()))


async def test_stop_with_nothing_under_way_says_so_or_drops_the_open_question(house: House, thread: Thread) -> None:
    await thread.say("stop")
    await thread.sees("nothing under way")
    await thread.say("create a ticket")
    await thread.sees("What should the ticket say?")
    await thread.say("stop")
    await thread.sees("I have dropped it")


async def test_the_decision_log_tells_every_turn_and_click_and_holds_no_words(house: House, platform: str) -> None:
    rosa, amir = Thread(Seat(house, platform, ROSA)), Seat(house, platform, AMIR)
    ticket = await house.new_ticket("A xylophone is out of tune")
    before = len(await log_of(house))
    await rosa.say("which tickets do I have")
    await rosa.sees("open ticket")
    await rosa.say("arrange a xylophone concert on the moon")
    await rosa.sees("I can't do that")
    await rosa.say(f"close {ticket}, the xylophone is fine")
    card = await amir.sees("Approval needed", ticket)
    await amir.press(card, "Deny", reason="Not the xylophone")
    await rosa.sees("Denied")
    log = await log_of(house)
    new = log[: len(log) - before][::-1]
    assert [(each.step, each.prediction) for each in new] == [
        ("embeddings", "my open tickets"), ("embeddings", None), ("command", "close a ticket"), ("click", "deny"),
    ]  # fmt: skip
    by_embeddings, out_of_scope, by_command, _ = new
    for each in (by_embeddings, out_of_scope):
        assert each.scope is not None
        assert each.model_version
        assert each.embedding_model
        assert 0 < each.confidence <= 1
    assert (by_command.scope, by_command.embedding_digest) == (None, None)
    for word in ("xylophone", "moon", "concert", ticket):
        assert word not in str(log)
    assert "xylophone" not in str(
        await house.web.core.database.read(lambda tx: tx.execute(select(open_questions)).all())
    )


async def test_an_answer_is_shown_with_who_wrote_it(talk: Thread) -> None:
    await talk.say("ask when the release is")
    answer = await talk.sees(ANSWER, "Answered by the tiny")
    assert "Still writing" not in answer
    assert len(talk.answers()) == 1


async def test_an_answer_is_shown_while_it_is_written_and_stop_ends_it_at_the_server(
    talking: TalkingHouse, talk: Thread
) -> None:
    talking.model.fault = Fault.STALL
    aborted = talking.model.aborted
    await talk.say("ask when the release is")
    await talk.sees("The …", "Still writing")
    await talk.say("stop")
    await talk.sees("Stopping")
    await talk.sees("The", "Stopped by you; the answer above is not complete.")
    await talking.model.idle()
    assert talking.model.aborted == aborted + 1
    await until(lambda: not any("Still writing" in each for each in talk.answers()))
    rows = await talking.web.core.database.read(
        lambda tx: tx.execute(select(answers_under_way.answers_under_way)).all()
    )
    assert rows == []


async def test_nobody_can_stop_somebody_elses_answer(talking: TalkingHouse, platform: str, talk: Thread) -> None:
    talking.model.fault = Fault.STALL
    await talk.say("ask when the release is")
    await talk.sees("The …", "Still writing")
    amir = Thread(Seat(talking, platform, AMIR))
    amir.root = talk.root
    await amir.say("stop")
    await amir.sees("nothing under way")
    await talk.sees(INTERRUPTED)


async def test_an_outage_is_told_once_in_a_thread_and_a_later_one_is_told_again(
    talking: TalkingHouse, talk: Thread
) -> None:
    await talking.model.go_away()
    try:
        await talk.say("ask when the release is")
        await talk.sees(AWAY, "offline engine")
        await talk.say("draft a reply")
        await talk.sees("draft by the offline engine")
        await talk.say("ask who is on call")
        await talk.sees("Answered by the offline engine", times=2)
        assert sum(AWAY in each for each in talk.answers()) == 1
        await talking.model.come_back()
        await talking.model_is_back()
        await talk.say("ask when the release is")
        await talk.sees("Answered by the tiny")
        await talking.model.go_away()
        await talk.say("ask when the release is")
        await talk.sees(AWAY, times=2)
    finally:
        await talking.model.go_away()
        await talking.model.come_back()


async def test_what_the_embeddings_refuse_is_put_to_the_language_model(talking: TalkingHouse, talk: Thread) -> None:
    talking.model.answers["classify"] = json.dumps({"label": "my open tickets", "confidence": 0.9})
    await talk.say("quid mihi faciendum restat")
    await talk.sees("open tickets")
    newest = (await log_of(talking))[0]
    assert (newest.step, newest.prediction) == ("model", "my open tickets")
    assert newest.scope is not None, "what drift is measured on is there whoever decided"


@pytest.mark.parametrize("fault", Fault)
async def test_each_fault_of_the_server_ends_in_an_answer_or_an_honest_message_in_time(
    faulty: TalkingHouse, fault: Fault
) -> None:
    talk = Thread(Seat(faulty, "slack", ROSA))
    faulty.model.fault = fault
    started = asyncio.get_running_loop().time()
    await talk.say("ask when the release is")
    await until(
        lambda: any("Answered by" in each for each in talk.answers()), why=lambda: f"{fault}: saw {talk.answers()}"
    )
    took = asyncio.get_running_loop().time() - started
    (answer,) = talk.answers()
    assert "Still writing" not in answer
    if fault in BEFORE_THE_FIRST_WORD:
        assert AWAY in answer
        assert "Answered by the offline engine" in answer
    elif fault in MIDWAY:
        assert INTERRUPTED in answer
    else:
        assert ANSWER in answer or AWAY in answer or INTERRUPTED in answer
    assert took < TOTAL_S + 2


async def test_a_budget_that_is_used_up_is_said_and_the_offline_engine_answers(
    platform: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with ModelServer() as server:
        house = TalkingHouse(
            short_folder(tmp_path_factory), model=server, variables={"VLLM_TOKENS_PER_PERSON_AND_DAY": "1"}
        )
        await house.start(worker=False)
        try:
            talk = Thread(Seat(house, platform, ROSA))
            await talk.say("ask when the release is")
            await talk.sees("Answered by")
            await talk.say("ask when the release is")
            second = await talk.sees("offline engine")
            assert "tokens" in second or "today" in second
            assert AWAY not in second
            assert len(server.requests) <= 1
        finally:
            await house.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def faulty(_faulty: TalkingHouse) -> AsyncIterator[TalkingHouse]:
    """A house whose server has recovered from whatever it had before."""
    _faulty.model.fault = None
    _faulty.model.answers = {**DEFAULT_ANSWERS, "reply": ANSWER}
    await _faulty.model_is_back()
    yield _faulty


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _faulty(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TalkingHouse]:
    """On SQLite and with Slack only: what is tried here is between us and the model's server."""
    async with ModelServer() as server:
        running = TalkingHouse(short_folder(tmp_path_factory), model=server)
        await running.start(worker=False)
        yield running
        await running.stop()
