"""The composition root: builds every object from the settings and hands it down. Nothing else constructs the product.

`Core` is what web and worker share; `Web` adds the doors, `Work` adds the executor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from actions.catalogue import Catalogue
from actions.connectors.registry import build_connectors
from actions.execute import Executor, FaultPoint, no_fault
from actions.hints import Hints
from actions.judgement import Judgement
from actions.road import Road
from actions.sweep import Sweep
from bot.metrics import Metrics
from bot.models import build_embedder, build_engine
from bot.settings import Settings, SettingsError
from handlers import answers_under_way, decisions, notices
from handlers.deliveries import Nonces
from handlers.dialog import Dialog
from handlers.open_questions import OpenQuestions
from handlers.projector import Projector
from handlers.router import Router, labels
from handlers.skills.registry import build_skills
from handlers.surface import Surface
from handlers.wording import Wording
from inference import usage
from inference.budget import TokenBudget
from inference.offline import OfflineEngine
from inference.skill_intents import PreparedIntents
from inference.triage import INSTALLED, Triage
from policies.people import Directory, PeopleError
from policies.residency import ResidencyRule
from policies.rules import Rules
from records import trace
from records.database import Database, DatabaseUnavailable, Transaction
from records.encryption import Cipher, load_or_create_key
from records.inbox import Inbox

ORGANISATION = "default"
"""One installation serves one organisation; every row names it, so that more can come."""
ROOT = Path(__file__).resolve().parent.parent
RULES_FOLDER = ROOT / "policies" / "rules"
MODEL_FOLDER = ROOT / ".countersign" / "models" / "minilm"
PEOPLE_REFRESH = timedelta(seconds=5)
TIDY_EVERY = timedelta(hours=1)
EVENTS_KEPT = timedelta(days=7)
"""How long a handled event is kept: far longer than any platform retries."""
TRACE_KEPT = timedelta(days=30)
DECISIONS_KEPT = timedelta(days=90)
"""How long it is kept how each request was understood, to see whether requests drift away from what is known."""
NOTICES_KEPT = timedelta(days=30)
ANSWERS_KEPT = timedelta(hours=1)
"""What a process left behind that died while it wrote an answer."""
USAGE_KEPT = timedelta(days=400)
"""A year to compare with, and some days to look at it."""

logger = structlog.get_logger(__name__)


class Core:
    """The floors below the surfaces, built once a process."""

    def __init__(self, settings: Settings, *, clock_shift: timedelta = timedelta()) -> None:
        """Raises SettingsError, PeopleError, RulesError or KeyUnusable, each a line for the operator."""
        self.settings = settings
        settings.data.mkdir(parents=True, exist_ok=True)
        master = settings.key or load_or_create_key(settings.data / "key")
        self.clock_shift = clock_shift
        self.database = open_database(settings, clock_shift=lambda: self.clock_shift)
        self.cipher = Cipher(derived(master, "fields"))
        self.nonces = Nonces(derived(master, "buttons"))
        self.prefix_cache_key = derived(master, "prefix-cache")
        self.questions = OpenQuestions(self.cipher)
        self.inbox = Inbox(self.cipher, self.database.dialect)
        self.directory = Directory.load(settings.people_file)
        self.rules = Rules.load(RULES_FOLDER, self.directory)
        self.connectors = build_connectors(settings.data, settings.public_url, samples=settings.workbench is not None)
        self.catalogue = Catalogue(self.connectors)
        self.judgement = Judgement(self.rules, self.directory, self.catalogue, tenant=ORGANISATION)
        self.hints = Hints(settings.redis_url)
        self.road = Road(
            self.database,
            self.catalogue,
            self.judgement,
            self.hints,
            lifetime=timedelta(hours=settings.approval_hours),
        )
        self.surfaces = self._surfaces()
        self.projector = Projector(self.database, self.surfaces, self.judgement, self.directory, self.nonces)

    def _surfaces(self) -> Mapping[str, Surface]:
        surfaces: dict[str, Surface] = {}
        if self.settings.slack is not None:
            from bot.slack.surface import SlackSurface

            surfaces["slack"] = SlackSurface(self.settings.slack)
        if self.settings.teams is not None:
            from bot.teams.surface import TeamsSurface

            surfaces["teams"] = TeamsSurface(self.settings.teams, self.database, self.cipher)
        return surfaces

    async def keep_people_fresh(self) -> None:
        """Take up edits of the people file until cancelled; a broken edit is logged and the last good list stays."""
        told = ""
        while True:
            await asyncio.sleep(PEOPLE_REFRESH.total_seconds())
            try:
                if await asyncio.to_thread(self.directory.refresh):
                    logger.info("people_reloaded")
                told = ""
            except PeopleError as error:
                if str(error) != told:
                    told = str(error)
                    logger.warning("people_not_reloaded", problem=told)

    async def close(self) -> None:
        """Release everything."""
        for surface in self.surfaces.values():
            await surface.close()
        for connector in self.connectors:
            await connector.close()
        self.hints.close()
        await asyncio.to_thread(self.database.close)


class Conversation:
    """The dialog with its inference engine; what the web process has beyond the core."""

    def __init__(self, core: Core, metrics: Metrics) -> None:
        settings = core.settings
        self.embedder = build_embedder(settings.model, settings.data, MODEL_FOLDER)
        budget = TokenBudget(
            core.database,
            tokens_a_day=settings.model.tokens_per_person_and_day,
            clock=lambda: datetime.now(UTC) + core.clock_shift,
        )
        self.engine = build_engine(
            settings.model, OfflineEngine(self.embedder), budget, metrics, salt_key=core.prefix_cache_key
        )
        skills = build_skills(core.catalogue, Triage(settings.data / INSTALLED, self.embedder))
        self.intents = PreparedIntents(self.embedder, labels(skills), settings.data / "models")
        self.dialog = Dialog(
            database=core.database,
            surfaces=core.surfaces,
            directory=core.directory,
            judgement=core.judgement,
            road=core.road,
            router=Router(skills, self.intents),
            engine=self.engine,
            skills=skills,
            projector=core.projector,
            nonces=core.nonces,
            wording=Wording(),
            questions=core.questions,
            residency=ResidencyRule(core.rules),
        )

    async def close(self) -> None:
        """Finish the drawings under way and release the models."""
        await self.dialog.drain()
        await self.engine.close()
        await self.intents.close()
        await self.embedder.close()


class Work:
    """The worker's side: runs executions, sweeps what is due, draws what changed."""

    def __init__(self, core: Core, *, fault_point: FaultPoint = no_fault) -> None:
        self.core = core
        self.executor = Executor(
            core.database, core.catalogue, core.judgement, ended=self._draw, fault_point=fault_point
        )
        self.sweep = Sweep(core.database, core.hints)
        self._drawing: set[asyncio.Task[None]] = set()

    def _draw(self, plan_id: str) -> None:
        task = asyncio.get_running_loop().create_task(self.core.projector.project(plan_id))
        self._drawing.add(task)
        task.add_done_callback(self._drawing.discard)

    async def keep_sweeping(self, every: timedelta) -> None:
        """Sweep until cancelled. A database or a platform that is away is a warning, not an end."""
        while True:
            try:
                await self.sweep.once()
                await self.core.projector.sweep()
            except Exception:
                logger.exception("sweep_failed")
            await asyncio.sleep(every.total_seconds())

    async def keep_tidy(self) -> None:
        """Forget what has had its time, hourly, until cancelled. The audit log is kept."""
        while True:
            try:
                await self.core.database.write(self.forget)
            except Exception:
                logger.exception("tidying_failed")
            await asyncio.sleep(TIDY_EVERY.total_seconds())

    def forget(self, tx: Transaction) -> None:
        """Delete what has had its time; see the constants above."""
        self.core.inbox.forget_before(tx, tx.now - EVENTS_KEPT)
        trace.forget_before(tx, tx.now - TRACE_KEPT)
        decisions.forget_before(tx, tx.now - DECISIONS_KEPT)
        notices.forget_before(tx, tx.now - NOTICES_KEPT)
        answers_under_way.forget_before(tx, tx.now - ANSWERS_KEPT)
        self.core.questions.forget_expired(tx)
        usage.forget_before(tx, (tx.now - USAGE_KEPT).date())

    async def close(self) -> None:
        """Finish the drawings under way."""
        while self._drawing:
            await asyncio.gather(*self._drawing, return_exceptions=True)


def open_database(settings: Settings, *, clock_shift: Callable[[], timedelta] = timedelta) -> Database:
    """The database of an installation; raises SettingsError when it does not answer."""
    try:
        database = Database(settings.database_url, clock_shift=clock_shift)
        database.check()
    except DatabaseUnavailable as error:
        raise SettingsError(f"DATABASE_URL does not work: {error}; check the address and that it runs") from error
    return database


def derived(master: bytes, purpose: str) -> bytes:
    """A 32-byte key for one purpose (HKDF-SHA256, RFC 5869), so that no key serves two."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"countersign|{purpose}".encode()).derive(master)
