"""Threads as colleagues write them, with what a good summary finds in each: which messages decide, ask what nobody
answered, give somebody a task, and name a date. `THREADS` were at hand while the extractor was made; `HELD_BACK` were
written afterwards, and what the extractor finds in them is what to expect of threads it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from inference.model import Utterance

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
"""A Monday."""


@dataclass(frozen=True, slots=True)
class MarkedThread:
    """A thread and the numbers of its messages, from 0, that belong under each heading."""

    name: str
    said: tuple[tuple[str, str], ...]
    decisions: frozenset[int]
    open_questions: frozenset[int]
    tasks: frozenset[int]
    dates: frozenset[int]
    """Every message that names a day or a time that matters, under whatever heading it is shown."""

    def utterances(self) -> tuple[Utterance, ...]:
        return tuple(
            Utterance(f"m{number}", author, text, START + timedelta(minutes=number))
            for number, (author, text) in enumerate(self.said)
        )


def marked(
    name: str,
    said: tuple[tuple[str, str], ...],
    *,
    decisions: tuple[int, ...] = (),
    questions: tuple[int, ...] = (),
    tasks: tuple[int, ...] = (),
    dates: tuple[int, ...] = (),
) -> MarkedThread:
    return MarkedThread(name, said, frozenset(decisions), frozenset(questions), frozenset(tasks), frozenset(dates))


THREADS = (
    marked(
        "certificate outage",
        (
            ("Ana Ruiz", "The login page has been down since this morning. Customers in Spain cannot sign in."),
            ("Ben Okafor", "I looked at the logs: the certificate expired at midnight."),
            ("Ana Ruiz", "Can we renew it today?"),
            ("Ben Okafor", "Yes, I have the access."),
            ("Caro Lind", "Two customers called already. They are quite angry."),
            ("Ben Okafor", "We decided to renew the certificate now and add an alert for next year."),
            ("Caro Lind", "Who writes the message to the customers?"),
            ("Ana Ruiz", "We have not decided about the refund yet."),
            ("Ben Okafor", "Let's move the release to Thursday then."),
            ("Caro Lind", "Does anyone know whether the app is affected too?"),
        ),
        decisions=(5, 8),
        questions=(6, 9),
        dates=(8,),
    ),
    marked(
        "office move",
        (
            ("Mia Torres", "We need to settle the office move. The lease ends on 30 June."),
            ("Jonas Weber", "The new place on Harbour Street is cheaper, 14 € a square metre."),
            ("Mia Torres", "How many desks fit in there?"),
            ("Jonas Weber", "42 desks plus two phone booths."),
            ("Priya Shah", "Is there parking for bikes?"),
            ("Lena Fox", "The showers are broken in the current building, by the way."),
            ("Mia Torres", "OK, we are going with Harbour Street."),
            ("Mia Torres", "Jonas, please sign the contract by 15 March."),
            ("Jonas Weber", "Will do. I'll send you a copy."),
            ("Priya Shah", "I will order the movers once we have a date."),
            ("Lena Fox", "What about the old furniture, do we sell it?"),
            ("Mia Torres", "Good point, no idea yet."),
        ),
        decisions=(6,),
        questions=(4, 10),
        tasks=(7, 8, 9),
        dates=(0, 7),
    ),
    marked(
        "database upgrade",
        (
            ("Sam Hill", "Postgres 14 goes out of support in November, so we should plan the upgrade."),
            ("Ivy Chen", "Which version do we want, 16 or 17?"),
            ("Sam Hill", "17 has the faster vacuum, I would take that."),
            ("Ivy Chen", "The extension we use for geo data is not tested on 17 yet."),
            ("Omar Diaz", "I tried it on staging last week and it worked without errors."),
            ("Ivy Chen", "Great, then agreed: we go to 17."),
            ("Sam Hill", "Proposal: Saturday 14 March, 22:00 UTC, when traffic is lowest."),
            ("Omar Diaz", "Works for me."),
            ("Ivy Chen", "How long will the site be down?"),
            ("Sam Hill", "About forty minutes if the dump is as big as last time."),
            ("Ivy Chen", "Who tells support about it?"),
            ("Sam Hill", "Omar will write the runbook and Ivy tests the rollback by Wednesday."),
            ("Omar Diaz", "Do we keep the old cluster for a week afterwards?"),
        ),
        decisions=(5,),
        questions=(10, 12),
        tasks=(11,),
        dates=(0, 6, 11),
    ),
    marked(
        "invoice dispute",
        (
            ("Nora Beck", "Supplier Hansen sent invoice 4711 twice, 1,250 € each time."),
            ("Tom Reed", "Did we pay both?"),
            ("Nora Beck", "No, only the first one, on 3 February."),
            ("Tom Reed", "Then we should not pay the second. What does the contract say about reminders?"),
            ("Nora Beck", "They threaten with a late fee if it is not settled by Friday."),
            ("Tom Reed", "I'd rather call them than write another mail."),
            ("Nora Beck", "I can call them tomorrow morning."),
            ("Tom Reed", "Thanks! And let's block the second invoice in the system."),
            ("Nora Beck", "Blocked."),
            ("Tom Reed", "If they insist, it goes to legal."),
            ("Nora Beck", "Who is our contact in legal now that Petra left?"),
        ),
        decisions=(7,),
        questions=(3, 10),
        tasks=(6,),
        dates=(2, 4, 6),
    ),
    marked(
        "hiring",
        (
            ("Eva Moss", "Short list for the support role: Dana, Felix and Ruth."),
            ("Karl Voss", "Felix was strong in the technical part, a bit shy otherwise."),
            ("Eva Moss", "Ruth speaks Dutch, which would help with the Antwerp customers."),
            ("Karl Voss", "Would she start before May?"),
            ("Eva Moss", "Yes, she could start on 13 April."),
            ("Hugo Stein", "Salary expectations of Ruth are above our band though."),
            ("Karl Voss", "By how much?"),
            ("Hugo Stein", "Roughly eight percent."),
            ("Karl Voss", "I think that is fine. Let's make Ruth an offer."),
            ("Eva Moss", "Approved from my side. I'll draft the offer today."),
            ("Hugo Stein", "Somebody has to tell Dana and Felix."),
            ("Karl Voss", "@Eva can you do that as well, by the end of the week?"),
            ("Eva Moss", "Sure."),
            ("Hugo Stein", "Are we going to keep the second opening for the autumn?"),
        ),
        decisions=(8, 9),
        questions=(13,),
        tasks=(9, 11),
        dates=(4, 9, 11),
    ),
    marked(
        "small talk with one fact",
        (
            ("Gil Park", "Morning all! Who is in the office?"),
            ("Zoe Lamb", "Me! The coffee machine is alive again."),
            ("Gil Park", "Wonderful news."),
            ("Zoe Lamb", "The fire drill is on Thursday at 11:00, just so nobody is surprised."),
            ("Gil Park", "Thanks for the warning, I would have jumped."),
            ("Ned Frost", "I'll be late today, the train is stuck."),
            ("Zoe Lamb", "We'll see you when we see you."),
            ("Ned Frost", "Anybody want a croissant from the station?"),
            ("Gil Park", "Yes please, two!"),
        ),
        dates=(3,),
    ),
    marked(
        "pricing page",
        (
            ("Rita Cole", "The pricing page converts badly: 1.2 % last month."),
            ("Anders Holm", "Half of the visitors never scroll to the table."),
            ("Rita Cole", "Should we show the yearly price first?"),
            ("Bea Lund", "We tested that in 2024 and it lost."),
            ("Anders Holm", "I suggest we try three plans instead of five."),
            ("Bea Lund", "+1, five is confusing."),
            ("Rita Cole", "Decision: three plans, Basic, Team and Company."),
            ("Rita Cole", "Anders builds the variant, Bea prepares the copy until 20 March."),
            ("Bea Lund", "What happens to customers on the old plans?"),
            ("Rita Cole", "They keep them, nothing changes for existing contracts."),
            ("Anders Holm", "Not sure whether the billing system can do that."),
            ("Bea Lund", "We might decide on discounts later."),
            ("Rita Cole", "Test starts on Monday 30 March and runs for two weeks."),
        ),
        decisions=(6,),
        questions=(10,),
        tasks=(7,),
        dates=(7, 12),
    ),
    marked(
        "laptop order",
        (
            ("Paul Kane", "Seven laptops reach end of warranty this quarter."),
            ("Ines Rey", "Do we buy or lease this time?"),
            ("Paul Kane", "Leasing is 31 euros a month for each."),
            ("Ines Rey", "And buying?"),
            ("Paul Kane", "About 1,100 euros, so leasing only pays under three years."),
            ("Ines Rey", "Then we buy. Please order seven of the 14 inch model."),
            ("Paul Kane", "I'm on it, the shop promises delivery by 24 March."),
            ("Uwe Lang", "Could I get a 16 inch one for video editing?"),
            ("Ines Rey", "Let me check the budget and come back to you tomorrow."),
            ("Uwe Lang", "My current one freezes ten times a day."),
            ("Paul Kane", "Has anyone collected the old chargers?"),
        ),
        decisions=(5,),
        questions=(7, 10),
        tasks=(5, 6, 8),
        dates=(6, 8),
    ),
)

HELD_BACK = (
    marked(
        "data centre heat",
        (
            ("Farah Aziz", "Rack 12 hit 41 degrees over the weekend, two nodes throttled."),
            ("Luis Mora", "Cooling unit B was off, facility says a breaker tripped."),
            ("Farah Aziz", "When do they replace it?"),
            ("Luis Mora", "The part arrives on 11 March, the technician comes the day after."),
            ("Greta Olsen", "Can we shift load to the north hall until then?"),
            ("Luis Mora", "We have capacity for about sixty percent of it."),
            ("Farah Aziz", "Let's move the batch jobs first and keep the web nodes."),
            ("Greta Olsen", "I'm going to prepare the migration plan."),
            ("Farah Aziz", "Luis, could you ask facility for a temperature alarm?"),
            ("Luis Mora", "Sure thing."),
            ("Greta Olsen", "Do we have a budget for a spare unit?"),
            ("Farah Aziz", "I would have to ask finance."),
            ("Luis Mora", "The insurance wants a report within ten days."),
        ),
        decisions=(6,),
        questions=(10,),
        tasks=(7, 8),
        dates=(3,),
    ),
    marked(
        "newsletter",
        (
            ("Pia Kent", "Draft of the April newsletter is in the folder, comments welcome."),
            ("Owen Lyle", "The headline is too long for phones."),
            ("Pia Kent", "How about “Spring cleaning for your inbox”?"),
            ("Owen Lyle", "Love it."),
            ("Tess Ray", "The legal footer still has the old address."),
            ("Pia Kent", "Fixed, thanks."),
            ("Tess Ray", "Do we send it on Tuesday or on Thursday?"),
            ("Owen Lyle", "Thursday opens better, 31 % against 24 %."),
            ("Pia Kent", "Agreed, Thursday 9 April it is."),
            ("Tess Ray", "I'll schedule it and send a test to all of you."),
            ("Owen Lyle", "Please check the unsubscribe link this time."),
            ("Pia Kent", "Who updates the archive page?"),
        ),
        decisions=(8,),
        questions=(11,),
        tasks=(9, 10),
        dates=(8,),
    ),
    marked(
        "customer visit",
        (
            ("Ravi Nair", "Northwind wants to visit us on 22 April with four people."),
            ("Sofia Grau", "Is the big meeting room free?"),
            ("Ravi Nair", "It is, I checked."),
            ("Kai Brandt", "They will ask about the outage in January."),
            ("Sofia Grau", "I think we should be open about it and show the new monitoring."),
            ("Ravi Nair", "Fine with me, so we open with the incident review."),
            ("Kai Brandt", "Then I prepare ten slides."),
            ("Sofia Grau", "Kai will demo the dashboard, I take care of lunch."),
            ("Ravi Nair", "Anything vegetarian needed?"),
            ("Ravi Nair", "And does anybody know if they come by train?"),
            ("Sofia Grau", "Two vegetarians, they told me last time."),
            ("Kai Brandt", "Slides are due on Friday, 17 April."),
        ),
        decisions=(5,),
        questions=(9,),
        tasks=(6, 7),
        dates=(0, 11),
    ),
)

GERMAN = marked(
    "Serverumzug",
    (
        ("Anna Kraus", "Der alte Server muss bis Ende Mai abgeschaltet werden."),
        ("Jörg Maier", "Wohin ziehen wir um, nach Frankfurt oder nach Nürnberg?"),
        ("Anna Kraus", "Nürnberg ist näher und kostet 20 % weniger."),
        ("Jörg Maier", "Wir haben beschlossen, nach Nürnberg zu gehen."),
        ("Anna Kraus", "Jörg kümmert sich bis Freitag um den Vertrag."),
        ("Lutz Behr", "Wer informiert die Kunden?"),
    ),
    decisions=(3,),
    questions=(5,),
    tasks=(4,),
    dates=(0, 4),
)
