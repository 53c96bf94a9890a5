"""The workbench: a page where two people talk to Countersign in a local Slack and a local Teams, beside the trace.

It reaches the product only as the platforms do, through `LocalPlatform`; nothing here calls the product's code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from bot.workbench.bundle import PAGE, load_bundle, serve
from bot.workbench.guard import LoopbackOnly
from bot.workbench.live import LiveStreams, ReadTrace
from bot.workbench.platform import LocalMessage, LocalPerson, LocalPlatform, LocalRoom, PressRefused
from records.trace import TraceEntry

BODY_LIMIT = 64 * 1024
"""Bytes of one request; what a person types and presses is far below."""
TEXT_LIMIT = 4_000
"""Characters of one message, as in Slack."""
TRACE_LIMIT = 200
"""Trace entries of one answer."""

Id = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=TEXT_LIMIT)]

Endpoint = Callable[[Request], Awaitable[Response]]
Model = TypeVar("Model", bound=BaseModel)


class Say(BaseModel):
    """A message a person writes; under `thread` when given."""

    model_config = ConfigDict(extra="forbid")

    platform: Id
    person: Id
    room: Id
    text: Words
    thread: Id | None = None


class Press(BaseModel):
    """A button a person presses, as the platform's own JSON of it."""

    model_config = ConfigDict(extra="forbid")

    platform: Id
    person: Id
    room: Id
    message: Id
    action: dict[str, Any]


class SubmitModal(BaseModel):
    """The open modal's values by block id; None closes it."""

    model_config = ConfigDict(extra="forbid")

    platform: Id
    person: Id
    values: dict[str, str] | None


class Refusal(Exception):
    """A request the page cannot serve; `detail` is the sentence the person reads."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Workbench:
    """The page, its API and its live stream.

    workbench = Workbench([slack, teams], read_trace)
    app = Starlette(routes=[*workbench.routes(), ...])
    """

    def __init__(self, platforms: Sequence[LocalPlatform], read_trace: ReadTrace) -> None:
        """Raises FileNotFoundError when the page was never built."""
        self._platforms = {platform.name: platform for platform in platforms}
        self._read_trace = read_trace
        self._streams = LiveStreams(platforms, read_trace)
        self._bundle = load_bundle()

    def routes(self) -> list[BaseRoute]:
        """`/` and the page's own paths under `/workbench`, each behind the loopback guard."""
        guard = [Middleware(LoopbackOnly)]
        reading: list[tuple[str, Endpoint]] = [
            ("/", self._page),
            ("/workbench/static/{name}", self._static),
            ("/workbench/live", self._live),
            ("/workbench/state", _answering(self._state)),
            ("/workbench/messages", _answering(self._messages)),
            ("/workbench/trace", _answering(self._trace)),
        ]
        changing: list[tuple[str, Endpoint]] = [
            ("/workbench/say", _answering(self._say)),
            ("/workbench/press", _answering(self._press)),
            ("/workbench/modal", _answering(self._modal)),
        ]
        return [
            *(Route(path, endpoint, methods=["GET"], middleware=guard) for path, endpoint in reading),
            *(Route(path, endpoint, methods=["POST"], middleware=guard) for path, endpoint in changing),
        ]

    def close(self) -> None:
        """End the live streams; called before the server waits for its connections to finish."""
        self._streams.close()

    async def _page(self, request: Request) -> Response:
        return serve(self._bundle[PAGE], request)

    async def _static(self, request: Request) -> Response:
        file = self._bundle.get(request.path_params["name"])
        return Response(status_code=404) if file is None else serve(file, request)

    async def _state(self, request: Request) -> Mapping[str, Any]:
        return {
            "platforms": [
                {
                    "name": platform.name,
                    "people": [_person(person) for person in platform.people()],
                    "assistant": _person(platform.assistant()),
                    "rooms": {
                        person.id: [_room(room) for room in platform.rooms(person.id)] for person in platform.people()
                    },
                }
                for platform in self._platforms.values()
            ]
        }

    async def _messages(self, request: Request) -> Mapping[str, Any]:
        query = request.query_params
        platform, person = self._who(query.get("platform", ""), query.get("person", ""))
        room = _room_of(platform, person, query.get("room", ""))
        return {
            "messages": [_message(message) for message in platform.messages(room, person)],
            "modal": platform.modal(person),
        }

    async def _trace(self, request: Request) -> Mapping[str, Any]:
        return {"entries": [_entry(entry) for entry in await self._read_trace(_after(request), TRACE_LIMIT)]}

    async def _live(self, request: Request) -> Response:
        try:
            after = _after(request)
        except Refusal as refusal:
            return _problem(refusal.status, refusal.detail)
        return StreamingResponse(
            self._streams.events(after), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    async def _say(self, request: Request) -> Mapping[str, Any]:
        said = await _body(request, Say)
        platform, person = self._who(said.platform, said.person)
        room = _room_of(platform, person, said.room)
        await platform.say(person, room, said.text, said.thread)
        return {}

    async def _press(self, request: Request) -> Mapping[str, Any]:
        pressed = await _body(request, Press)
        platform, person = self._who(pressed.platform, pressed.person)
        room = _room_of(platform, person, pressed.room)
        return {"notice": await platform.press(person, room, pressed.message, pressed.action)}

    async def _modal(self, request: Request) -> Mapping[str, Any]:
        submitted = await _body(request, SubmitModal)
        platform, person = self._who(submitted.platform, submitted.person)
        await platform.submit_modal(person, submitted.values)
        return {}

    def _who(self, platform_name: str, person_id: str) -> tuple[LocalPlatform, str]:
        platform = self._platforms.get(platform_name)
        if platform is None:
            raise Refusal(404, "There is no such platform here.")
        if all(person.id != person_id for person in platform.people()):
            raise Refusal(404, "There is no such person here.")
        return platform, person_id


def _answering(work: Callable[[Request], Awaitable[Mapping[str, Any]]]) -> Endpoint:
    """An endpoint that answers with what `work` returns, or with the reason it did not, as problem+json."""

    async def endpoint(request: Request) -> Response:
        try:
            return JSONResponse(await work(request), headers={"cache-control": "no-store"})
        except Refusal as refusal:
            return _problem(refusal.status, refusal.detail)
        except PressRefused as refused:
            return _problem(409, str(refused))

    return endpoint


def _problem(status: int, detail: str) -> Response:
    """RFC 9457 problem details."""
    return JSONResponse(
        {"type": "about:blank", "status": status, "detail": detail},
        status_code=status,
        media_type="application/problem+json",
        headers={"cache-control": "no-store"},
    )


async def _body(request: Request, model: type[Model]) -> Model:
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > BODY_LIMIT:
            raise Refusal(413, "That is too long.")
    try:
        return model.model_validate_json(bytes(received))
    except ValidationError as error:
        where = ", ".join(".".join(str(step) for step in problem["loc"]) for problem in error.errors())
        raise Refusal(422, f"Not understood: {where or 'the body'}.") from None


def _room_of(platform: LocalPlatform, person: str, room_id: str) -> str:
    if all(room.id != room_id for room in platform.rooms(person)):
        raise Refusal(404, "There is no such room for this person.")
    return room_id


def _after(request: Request) -> int:
    value = request.query_params.get("after", "0")
    if not value.isdecimal() or len(value) > 18:
        raise Refusal(422, "Not understood: after.")
    return int(value)


def _person(person: LocalPerson) -> Mapping[str, Any]:
    return {"id": person.id, "name": person.name}


def _room(room: LocalRoom) -> Mapping[str, Any]:
    return {"id": room.id, "name": room.name, "direct": room.direct}


def _message(message: LocalMessage) -> Mapping[str, Any]:
    return {
        "id": message.id,
        "room": message.room,
        "thread": message.thread,
        "author": message.author,
        "author_name": message.author_name,
        "from_assistant": message.from_assistant,
        "at": _moment(message.at),
        "text": message.text,
        "payload": dict(message.payload),
        "only_for": message.only_for,
        "edited": message.edited,
    }


def _entry(entry: TraceEntry) -> Mapping[str, Any]:
    return {
        "id": entry.id,
        "at": _moment(entry.at),
        "request_id": entry.request_id,
        "stage": entry.stage,
        "text": entry.text,
        "approval_id": entry.approval_id,
        "execution_id": entry.execution_id,
    }


def _moment(moment: datetime) -> str:
    return moment.isoformat()
