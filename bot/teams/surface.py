"""Teams as a place to post: implements `handlers.surface.Surface` over the Bot Connector."""

from __future__ import annotations

import structlog

from bot.settings import TeamsSettings
from bot.teams.adaptive import Account
from bot.teams.connector import Connector
from bot.teams.conversations import Conversations, Reference, Said
from bot.teams.members import Members
from bot.teams.message import activities, activity, plain_text
from handlers.card import Mention
from handlers.reply import Reply
from handlers.surface import MessageRef, SurfaceUnavailable, ThreadMessage
from handlers.turn import Place, Sender
from records.database import Database
from records.encryption import Cipher

ASSISTANT_NAME = "Countersign"

logger = structlog.get_logger(__name__)


class TeamsSurface:
    """Posts, updates and reads in Teams.

    surface = TeamsSurface(settings, database, cipher)
    ref = await surface.post(turn.place, Reply.text("On it."))
    ...
    await surface.close()
    """

    name = "teams"

    def __init__(
        self, settings: TeamsSettings, database: Database, cipher: Cipher, *, connector: Connector | None = None
    ) -> None:
        self._settings = settings
        self.connector = connector or Connector(settings)
        self.conversations = Conversations(database, cipher)
        self.members = Members(settings, self.connector)

    async def post(self, place: Place, reply: Reply) -> MessageRef:
        """Post in the place's thread; in a channel without one, start a new thread."""
        reference = await self._reference(place)
        message_id = ""
        for message in activities(reply, account=await self.accounts_for(place.tenant, reply)):
            message_id = await self.connector.send(reference.service_url, _address(place), _from(message, reference))
            if not message_id:
                raise SurfaceUnavailable("Teams did not take send: the answer names no message")
        ref = MessageRef(place, message_id)
        await self._record(ref, reply)
        return ref

    async def update(self, ref: MessageRef, reply: Reply) -> None:
        """Replace a message we posted."""
        reference = await self._reference(ref.place)
        message = activity(reply, account=await self.accounts_for(ref.place.tenant, reply))
        await self.connector.update(
            reference.service_url, _address(ref.place), ref.message_id, _from(message, reference)
        )
        await self._record(ref, reply)

    async def tell_privately(self, place: Place, person: Sender, reply: Reply) -> None:
        """Say something in the person's one-to-one chat: Teams has no message for one member of a channel."""
        await self.post(await self.direct_place(person), reply)

    async def show_progress(self, place: Place, step: str) -> None:
        """Show that we are typing. Teams shows no words with it outside a stream, so `step` stays unsaid."""
        try:
            reference = await self._reference(place)
            typing = _from({"type": "typing"}, reference)
            await self.connector.send(reference.service_url, _address(place), typing, attempts=1)
        except SurfaceUnavailable as error:
            logger.info("teams_progress_not_shown", reason=str(error))

    async def read_thread(self, place: Place, *, limit: int = 200) -> list[ThreadMessage]:
        """What we were told and what we said there: Teams lets no bot read history."""
        return await self.conversations.thread(place.tenant, place.conversation, place.thread, limit)

    async def direct_place(self, person: Sender) -> Place:
        """The one-to-one conversation with a person; opened where the app is installed for them."""
        known = await self.conversations.direct(person.tenant, person.user)
        if known is None:
            known = await self._open_direct(person)
        return Place(self.name, person.tenant, known.conversation, direct=True)

    async def close(self) -> None:
        """Release the connections."""
        await self.connector.close()

    async def _open_direct(self, person: Sender) -> Reference:
        newest = await self.conversations.newest(person.tenant)
        if newest is None:
            raise SurfaceUnavailable(
                "Teams did not take create_conversation: nobody of this tenant has spoken to us yet"
            )
        accounts = await self.conversations.accounts(person.tenant, [person.user])
        conversation = await self.connector.create_conversation(
            newest.service_url,
            {
                "bot": {"id": newest.bot, "name": ASSISTANT_NAME},
                "members": [{"id": accounts.get(person.user, person.user)}],
                "isGroup": False,
                "tenantId": person.tenant,
                "channelData": {"tenant": {"id": person.tenant}},
            },
        )
        opened = Reference(
            tenant=person.tenant,
            conversation=conversation,
            service_url=newest.service_url,
            kind="personal",
            bot=newest.bot,
            person=person.user,
        )
        await self.conversations.learn(opened)
        return opened

    async def _reference(self, place: Place) -> Reference:
        found = await self.conversations.find(place.tenant, place.conversation)
        if found is None:
            raise SurfaceUnavailable("Teams was not asked: we were never told where this conversation is")
        return found

    async def accounts_for(self, tenant: str, reply: Reply) -> Account:
        """The account ids of those a reply mentions; Teams also takes the directory id of people we never met."""
        parts = (*reply.parts, *(reply.card.parts if reply.card is not None else ()))
        people = [part.user for part in parts if isinstance(part, Mention)]
        known = await self.conversations.accounts(tenant, people) if people else {}
        return lambda person: known.get(person, person)

    async def _record(self, ref: MessageRef, reply: Reply) -> None:
        place = ref.place
        text = plain_text(reply)
        await self.conversations.record(
            Said(
                tenant=place.tenant,
                conversation=place.conversation,
                message=ref.message_id,
                thread=place.thread,
                person=None,
                author=ASSISTANT_NAME,
                text=text,
            )
        )


def _address(place: Place) -> str:
    """The conversation id with the thread's root, which is how Teams addresses a thread of a channel."""
    return f"{place.conversation};messageid={place.thread}" if place.thread else place.conversation


def _from(message: dict[str, object], reference: Reference) -> dict[str, object]:
    return {
        **message,
        "from": {"id": reference.bot, "name": ASSISTANT_NAME},
        "conversation": {"id": reference.conversation},
        "channelId": "msteams",
        "serviceUrl": reference.service_url,
    }
