"""Where Teams conversations are, who we met there, and what was said to us, since a bot cannot read history in Teams.

Invariant: text and names of messages are at rest only sealed, and kept for `RETENTION` at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Column, Index, LargeBinary, Table, bindparam, delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from handlers.surface import ThreadMessage
from records.database import Database, Transaction
from records.encryption import Cipher
from records.schema import Id, Moment, Name, metadata

RETENTION = timedelta(days=30)
"""How long a message can be read back; threads that people still ask about are younger."""
GREETING_PAUSE = timedelta(minutes=10)
"""Teams reports one installation by several events; those within this time get one greeting."""
SWEEP_EVERY = timedelta(hours=6)
CACHED_REFERENCES = 10_000
_REFERENCE_COLUMNS = ("service_url", "kind", "bot", "person", "updated_at")
_GREETING_COLUMNS = frozenset({"greeted_at", "greeted_for"})

teams_conversations = Table(
    "teams_conversations",
    metadata,
    Column("tenant", Name, primary_key=True),
    Column("conversation", Name, primary_key=True),
    Column("service_url", Name, nullable=False),
    Column("kind", Name, nullable=False),
    Column("person", Name),
    Column("bot", Name, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("greeted_at", Moment),
    Column("greeted_for", Id),
    Index("teams_conversations_person", "tenant", "person"),
)

teams_people = Table(
    "teams_people",
    metadata,
    Column("tenant", Name, primary_key=True),
    Column("person", Name, primary_key=True),
    Column("account", Name, nullable=False),
    Column("updated_at", Moment, nullable=False),
)

teams_messages = Table(
    "teams_messages",
    metadata,
    Column("tenant", Name, primary_key=True),
    Column("conversation", Name, primary_key=True),
    Column("message", Name, primary_key=True),
    Column("thread", Name),
    Column("person", Name),
    Column("sealed", LargeBinary, nullable=False),
    Column("at", Moment, nullable=False),
    Index("teams_messages_thread", "tenant", "conversation", "thread", "at"),
)


@dataclass(frozen=True, slots=True)
class Reference:
    """What is needed to speak in a conversation without being spoken to (Bot Framework's ConversationReference)."""

    tenant: str
    conversation: str
    """Without the `;messageid=` suffix."""
    service_url: str
    kind: str
    """`personal`, `groupChat` or `channel`."""
    bot: str
    """Our account id there."""
    person: str | None = None
    """Directory id (`aadObjectId`) of the other person in a personal conversation."""


@dataclass(frozen=True, slots=True)
class Account:
    """A person's directory id and the account id Teams knows them by in messages."""

    tenant: str
    person: str
    account: str


@dataclass(frozen=True, slots=True)
class Said:
    """One message to keep for reading the thread back."""

    tenant: str
    conversation: str
    message: str
    thread: str | None
    person: str | None
    """Directory id of its author; None for our own."""
    author: str
    text: str


class Conversations:
    """Stored conversations, people and messages."""

    def __init__(self, database: Database, cipher: Cipher) -> None:
        self._database = database
        self._cipher = cipher
        insert: Any = {"sqlite": sqlite_insert, "postgresql": postgres_insert}[database.dialect]
        # Built once: on the way of every message the compiled statements come from the cache.
        self._put_reference_row = _upsert(insert, teams_conversations, changed=_REFERENCE_COLUMNS)
        self._put_person_row = _upsert(insert, teams_people, changed=("account", "updated_at"))
        self._put_message_row = _upsert(insert, teams_messages, changed=("sealed",))
        self._swept: dict[tuple[str, str], datetime] = {}
        """When messages past their time were last deleted, by conversation."""
        self._references: dict[tuple[str, str], Reference] = {}
        self._accounts: dict[tuple[str, str], str] = {}

    async def learn(self, reference: Reference, account: Account | None = None, said: Said | None = None) -> None:
        """Keep what an activity told us; what we know already costs nothing."""
        known = self._references.get((reference.tenant, reference.conversation)) == reference
        met = account is None or self._accounts.get((account.tenant, account.person)) == account.account
        if known and met and said is None:
            return

        def write(tx: Transaction) -> None:
            if not known:
                self._put_reference(tx, reference)
            if account is not None and not met:
                row = {"tenant": account.tenant, "person": account.person, "account": account.account}
                tx.execute(self._put_person_row, {**row, "updated_at": tx.now})
            if said is not None:
                self._put_message(tx, said)

        await self._database.write(write)
        self._cache(reference)
        if account is not None:
            if len(self._accounts) >= CACHED_REFERENCES:
                self._accounts.clear()
            self._accounts[account.tenant, account.person] = account.account

    async def record(self, said: Said) -> None:
        """Keep a message, or its new text."""
        await self._database.write(lambda tx: self._put_message(tx, said))

    async def claim_greeting(self, reference: Reference, event_id: str) -> bool:
        """Whether this event is the one to greet for; the same event may ask again after a failure."""

        def write(tx: Transaction) -> bool:
            row = teams_conversations.c
            claimed = tx.execute(
                update(teams_conversations)
                .where(
                    row.tenant == reference.tenant,
                    row.conversation == reference.conversation,
                    or_(
                        row.greeted_at.is_(None),
                        row.greeted_at < tx.now - GREETING_PAUSE,
                        row.greeted_for == event_id,
                    ),
                )
                .values(greeted_at=tx.now, greeted_for=event_id)
            )
            return claimed.rowcount == 1

        return await self._database.write(write)

    async def find(self, tenant: str, conversation: str) -> Reference | None:
        """How to reach a conversation we were told of."""
        cached = self._references.get((tenant, conversation))
        if cached is not None:
            return cached
        row = teams_conversations.c
        exact = select(teams_conversations).where(row.tenant == tenant, row.conversation == conversation)
        found = await self._database.read(lambda tx: _reference(tx.execute(exact).mappings().first()))
        if found is not None:
            self._cache(found)
        return found

    async def newest(self, tenant: str) -> Reference | None:
        """The conversation of a tenant heard from last: its service URL is where new ones are opened."""
        row = teams_conversations.c
        query = select(teams_conversations).where(row.tenant == tenant).order_by(row.updated_at.desc()).limit(1)
        return await self._database.read(lambda tx: _reference(tx.execute(query).mappings().first()))

    async def direct(self, tenant: str, person: str) -> Reference | None:
        """The one-to-one conversation with a person."""
        row = teams_conversations.c
        query = (
            select(teams_conversations)
            .where(row.tenant == tenant, row.person == person, row.kind == "personal")
            .order_by(row.updated_at.desc())
            .limit(1)
        )
        return await self._database.read(lambda tx: _reference(tx.execute(query).mappings().first()))

    async def accounts(self, tenant: str, people: Sequence[str]) -> Mapping[str, str]:
        """Account ids of people by directory id, as far as we met them."""
        unknown = [person for person in people if (tenant, person) not in self._accounts]
        if unknown:
            row = teams_people.c
            query = select(row.person, row.account).where(row.tenant == tenant, row.person.in_(unknown))
            for found in await self._database.read(lambda tx: tx.execute(query).all()):
                self._accounts[tenant, found.person] = found.account
        return {person: self._accounts[tenant, person] for person in people if (tenant, person) in self._accounts}

    async def thread(self, tenant: str, conversation: str, thread: str | None, limit: int) -> list[ThreadMessage]:
        """The newest messages of a thread (of the conversation when there is none), oldest first."""
        row = teams_messages.c
        query = select(row.message, row.person, row.sealed, row.at).where(
            row.tenant == tenant, row.conversation == conversation
        )
        if thread is not None:
            query = query.where(row.thread == thread)
        query = query.order_by(row.at.desc(), row.message.desc()).limit(limit)
        rows = await self._database.read(lambda tx: tx.execute(query).all())
        return [self._message(tenant, conversation, *found) for found in reversed(rows)]

    def _message(
        self, tenant: str, conversation: str, message: str, person: str | None, sealed: bytes, at: datetime
    ) -> ThreadMessage:
        clear = orjson.loads(self._cipher.open(sealed, context=_context(tenant, conversation, message)))
        return ThreadMessage(message, clear["author"], clear["text"], at, from_assistant=person is None)

    def _put_reference(self, tx: Transaction, reference: Reference) -> None:
        row = {
            "tenant": reference.tenant,
            "conversation": reference.conversation,
            "service_url": reference.service_url,
            "kind": reference.kind,
            "bot": reference.bot,
            "person": reference.person,
            "updated_at": tx.now,
        }
        tx.execute(self._put_reference_row, row)

    def _put_message(self, tx: Transaction, said: Said) -> None:
        clear = orjson.dumps({"author": said.author, "text": said.text})
        row = {
            "tenant": said.tenant,
            "conversation": said.conversation,
            "message": said.message,
            "thread": said.thread,
            "person": said.person,
            "sealed": self._cipher.seal(clear, context=_context(said.tenant, said.conversation, said.message)),
            "at": tx.now,
        }
        tx.execute(self._put_message_row, row)
        self._sweep(tx, said.tenant, said.conversation)

    def _sweep(self, tx: Transaction, tenant: str, conversation: str) -> None:
        """Delete what is past its time, once a while for a conversation that goes on."""
        swept = self._swept.get((tenant, conversation))
        if swept is not None and tx.now - swept < SWEEP_EVERY:
            return
        if len(self._swept) >= CACHED_REFERENCES:
            self._swept.clear()
        self._swept[tenant, conversation] = tx.now
        row = teams_messages.c
        past = tx.now - RETENTION
        tx.execute(delete(teams_messages).where(row.tenant == tenant, row.conversation == conversation, row.at < past))

    def _cache(self, reference: Reference) -> None:
        if len(self._references) >= CACHED_REFERENCES:
            self._references.clear()
        self._references[reference.tenant, reference.conversation] = reference


def _upsert(insert: Any, table: Table, *, changed: Sequence[str]) -> Any:
    """Insert a row given by column names, or change some columns of the one that is there."""
    written = [column.name for column in table.columns if column.name not in _GREETING_COLUMNS]
    statement = insert(table).values({name: bindparam(name) for name in written})
    return statement.on_conflict_do_update(
        index_elements=[column.name for column in table.primary_key],
        set_={name: statement.excluded[name] for name in changed},
    )


def _reference(row: Any) -> Reference | None:
    if row is None:
        return None
    return Reference(
        tenant=row["tenant"],
        conversation=row["conversation"],
        service_url=row["service_url"],
        kind=row["kind"],
        bot=row["bot"],
        person=row["person"],
    )


def _context(tenant: str, conversation: str, message: str) -> str:
    return f"teams_messages|{tenant}|{conversation}|{message}"
