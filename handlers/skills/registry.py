"""Every skill of the product: one line each."""

from __future__ import annotations

from actions.catalogue import Catalogue
from handlers.skill import Skill
from handlers.skills.answer_question import AnswerQuestion
from handlers.skills.close_ticket import CloseTicket
from handlers.skills.create_ticket import CreateTicket
from handlers.skills.draft_reply import DraftReply
from handlers.skills.help import Help
from handlers.skills.my_tickets import MyTickets
from handlers.skills.summarise_thread import SummariseThread
from handlers.skills.triage_ticket import TriageTicket
from inference.triage import Triage


def build_skills(catalogue: Catalogue, triage: Triage) -> tuple[Skill, ...]:
    """The skills, in the order help lists them."""
    skills: list[Skill] = [
        SummariseThread(),
        AnswerQuestion(),
        DraftReply(),
        CreateTicket(catalogue),
        CloseTicket(catalogue),
        MyTickets(),
        TriageTicket(triage),
    ]
    skills.append(Help(lambda: skills))
    return tuple(skills)
