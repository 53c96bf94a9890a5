"""A language model outside the company: what reaches it, what people are told, and what the cards say it made up."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import structlog.testing

from tests.doubles.model_server import Fault, ModelServer
from tests.scenarios.conftest import short_folder
from tests.scenarios.house import AMIR, ROSA, House, Seat, shown, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEY = "sk-only-for-the-model-server"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def model() -> AsyncIterator[ModelServer]:
    """A language model's server, as far outside as the house believes."""
    async with ModelServer() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def careful_house(model: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A house that lets the model receive what people ask it themselves."""
    variables = {
        "VLLM_BASE_URL": model.url,
        "VLLM_MODEL": "tiny",
        "VLLM_API_KEY": KEY,
        "VLLM_LOCATION": "outside",
        "VLLM_RECEIVES": "own-words",
    }
    house = House(short_folder(tmp_path_factory), variables=variables)
    await house.start()
    yield house
    await house.stop()


def received(model: ModelServer) -> str:
    """All that the server was ever sent."""
    return json.dumps([request.body for request in model.requests], ensure_ascii=False)


async def test_messages_of_others_stay_and_the_answer_says_why(careful_house: House, model: ModelServer) -> None:
    rosa, amir = Seat(careful_house, "slack", ROSA), Seat(careful_house, "slack", AMIR)
    await amir.say("The merger with Zanzibar Freight is signed on Thursday.")
    root = amir.seen()[-1].id
    for command, answered in (
        ("summarise this thread", "messages by"),
        ("draft a reply: say that we agree", "Here is a draft"),
        ("ask when the merger is signed", "Zanzibar"),
    ):
        await rosa.say(f"@Countersign {command}", thread=root)
        answer = await rosa.sees(answered, "messages of others may not go there")
        assert "offline engine" in shown(answer)
    assert "Zanzibar" not in received(model)


async def test_own_words_reach_the_model_and_the_names_of_colleagues_do_not(
    careful_house: House, model: ModelServer
) -> None:
    rosa = Seat(careful_house, "slack", ROSA)
    ticket = await careful_house.new_ticket()
    before = len(model.requests)
    await rosa.say(f"@Countersign close {ticket}")
    await rosa.sees("Approval needed", ticket)
    asked = json.dumps([request.body for request in model.requests[before:]])
    assert ticket in asked
    assert "Amir" not in asked
    assert "noor" not in asked.lower()


@pytest.mark.parametrize("platform", ["slack", "teams"])
async def test_a_card_names_the_values_that_the_model_worded(
    careful_house: House, model: ModelServer, platform: str
) -> None:
    rosa, amir = Seat(careful_house, platform, ROSA), Seat(careful_house, platform, AMIR)
    ticket = await careful_house.new_ticket()
    call = {"tool": "ticketing.close", "arguments": {"ticket": ticket, "resolution": "Fixed by the night shift"}}
    model.answers["propose_plan"] = json.dumps({"calls": [call], "reason": "You asked for it."})
    await rosa.say(f"@Countersign close {ticket}")
    card = await amir.sees("Approval needed", ticket)
    assert "Not typed by Rosa: resolution (worded by the assistant)." in shown(card)
    await amir.press(card, "Details")
    if platform == "slack":
        details = str(await until(lambda: careful_house.slack.modal(amir.user)))
        await careful_house.slack.submit_modal(amir.user, None)
    else:
        details = shown(await amir.sees("Where each value comes from", direct=True))
    assert "worded by the assistant" in details
    assert "typed by Rosa" in details


async def test_no_log_holds_what_was_said_or_the_servers_key(careful_house: House, model: ModelServer) -> None:
    rosa = Seat(careful_house, "slack", ROSA)
    model.fault = Fault.SERVER_ERROR
    with structlog.testing.capture_logs() as logs:
        for number in range(20):
            ticket = f"the Quillfeather lamp {number} is broken"
            await rosa.say(f"@Countersign create a ticket: {ticket}")
            await rosa.sees("Created", f"lamp {number} ")
            if any(event["event"] == "model_away" for event in logs):
                break
    assert "Quillfeather" in received(model)
    assert model.requests[-1].headers["authorization"] == f"Bearer {KEY}"
    assert logs, "the outage is told"
    written = json.dumps(logs, default=str)
    assert "Quillfeather" not in written
    assert KEY not in written
