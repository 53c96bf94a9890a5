"""People in words: found by name, id or mention, and never guessed between two."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.model import KnownPerson
from inference.people_named import people_listed, person_at

PEOPLE = (
    KnownPerson("amir", "Amir Haddad"),
    KnownPerson("rosa", "Rosa Blum"),
    KnownPerson("aruiz", "Ana Ruiz"),
    KnownPerson("asilva", "Ana Silva"),
    KnownPerson("jose", "José Núñez"),
    KnownPerson("kim1", "Kim Lee"),
    KnownPerson("kim2", "Kim Lee"),
)


@pytest.mark.parametrize(
    ("words", "id", "text"),
    [
        ("Amir", "amir", "Amir"),
        ("amir, tomorrow", "amir", "amir"),
        ("Amir Haddad please", "amir", "Amir Haddad"),
        ("Amir Friday", "amir", "Amir"),
        ("rosa blum", "rosa", "rosa blum"),
        ("Ana Ruiz", "aruiz", "Ana Ruiz"),
        ("asilva", "asilva", "asilva"),
        ("@amir.", "amir", "@amir"),
        ("JOSE NUNEZ", "jose", "JOSE NUNEZ"),
        ("<@U012AB> please", "<@U012AB>", "<@U012AB>"),
        ("<at>Amir</at>", "<at>Amir</at>", "<at>Amir</at>"),
    ],
)
def test_a_person_is_found_as_colleagues_name_them(words: str, id: str, text: str) -> None:
    found = person_at(words, 0, PEOPLE)
    assert found is not None
    assert (found.id, found.text, found.problem) == (id, text, "")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("Ana", "Ana Ruiz (aruiz), Ana Silva (asilva)"),
        ("@ana", "may be"),
        ("Kim Lee", "Kim Lee (kim1), Kim Lee (kim2)"),
        ("Amir Khan", "nobody called “Amir Khan”"),
        ("Zorg", "nobody called “Zorg”"),
        ("@bob", "nobody called"),
        ("Amir or Rosa", "more than one person"),
    ],
)
def test_a_name_of_two_people_or_of_nobody_is_refused_with_the_reason(words: str, why: str) -> None:
    found = person_at(words, 0, PEOPLE)
    assert found is not None
    assert found.id == ""
    assert why in found.problem


@pytest.mark.parametrize("words", ["the team", "me", "Amir's team", "", "  ", "12"])
def test_what_names_nobody_is_nobody(words: str) -> None:
    assert person_at(words, 0, PEOPLE) is None


def test_a_list_ends_where_something_else_begins() -> None:
    listed = people_listed("Amir, Rosa Blum and <@U1>, on Friday", 0, PEOPLE)
    assert [each.id for each in listed] == ["amir", "rosa", "<@U1>"]
    assert [each.id for each in people_listed("Amir and Zorg", 0, PEOPLE)] == ["amir", ""]


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=40),
        st.lists(st.sampled_from(["Ana", "Kim", "Lee", "Amir", "@", "<@U1>", "'s", ","])).map(" ".join),
    )
)
def test_whatever_is_typed_a_person_found_is_one_whose_name_or_id_stands_there(words: str) -> None:
    for start in range(len(words)):
        found = person_at(words, start, PEOPLE)
        if found is None:
            continue
        assert words[found.start : found.end] == found.text
        assert bool(found.id) != bool(found.problem)
        if found.id and not found.id.startswith("<"):
            assert found.id not in ("kim1", "kim2") or found.text.lstrip("@") in ("kim1", "kim2")
            (person,) = [person for person in PEOPLE if person.id == found.id]
            said = found.text.lstrip("@").lower()
            assert said in (person.id, person.name.lower(), person.name.split()[0].lower())
