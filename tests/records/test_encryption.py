"""Encryption at rest: a sealed value opens with its key, in its row, unchanged, and in no other way."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.encryption import KEY_BYTES, Cipher, KeyUnusable, load_or_create_key

KEY = bytes(range(KEY_BYTES))


@given(clear=st.binary(max_size=2000), context=st.text(max_size=50))
def test_what_was_sealed_opens_to_the_same(clear: bytes, context: str) -> None:
    cipher = Cipher(KEY)
    assert cipher.open(cipher.seal(clear, context=context), context=context) == clear


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_every_flipped_bit_is_refused(position: int, bit: int) -> None:
    sealed = bytearray(Cipher(KEY).seal(b"the text of a message", context="inbox|1"))
    sealed[position % len(sealed)] ^= 1 << bit
    with pytest.raises(KeyUnusable):
        Cipher(KEY).open(bytes(sealed), context="inbox|1")


@given(length=st.integers(0, 40))
def test_a_value_cut_short_is_refused(length: int) -> None:
    sealed = Cipher(KEY).seal(b"the text of a message", context="inbox|1")
    with pytest.raises(KeyUnusable):
        Cipher(KEY).open(sealed[:length], context="inbox|1")


def test_another_row_or_another_key_does_not_open_it() -> None:
    sealed = Cipher(KEY).seal(b"text", context="inbox|1")
    with pytest.raises(KeyUnusable):
        Cipher(KEY).open(sealed, context="inbox|2")
    with pytest.raises(KeyUnusable):
        Cipher(KEY[::-1]).open(sealed, context="inbox|1")


def test_the_same_text_never_looks_the_same_twice_and_does_not_show() -> None:
    cipher = Cipher(KEY)
    sealed = {cipher.seal(b"the same text", context="inbox|1") for _ in range(100)}
    assert len(sealed) == 100
    assert not any(b"the same" in value for value in sealed)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(KeyUnusable, match="32 bytes"):
        Cipher(bytes(length))


def test_a_key_file_is_made_once_for_its_owner_alone_and_read_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = load_or_create_key(path)
    assert len(key) == KEY_BYTES
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert load_or_create_key(path) == key
    assert load_or_create_key(tmp_path / "other") != key


def test_all_who_start_at_once_get_the_same_key(tmp_path: Path) -> None:
    for attempt in range(20):
        path = tmp_path / f"key-{attempt}"
        with ThreadPoolExecutor(8) as threads:
            keys = set(threads.map(load_or_create_key, [path] * 8))
        assert len(keys) == 1, "two of them made a key, or one read half of it"
        assert len(keys.pop()) == KEY_BYTES


@pytest.mark.parametrize("content", ["", "zz", "not hexadecimal at all", "ab" * 31])
def test_a_damaged_key_file_is_an_error_and_never_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(KeyUnusable):
        Cipher(load_or_create_key(path))
    assert path.read_text() == content


def test_a_key_file_that_cannot_be_made_says_where(tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable, match="cannot be made"):
        load_or_create_key(tmp_path / "missing" / "key")
