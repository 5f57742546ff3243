from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.tokens import is_token, make_token


def test_our_own_tokens_are_tokens_and_hold_128_bits_of_chance() -> None:
    assert all(is_token(make_token()) for _ in range(50))
    assert len({make_token()[10:] for _ in range(1000)}) == 1000


@given(st.text(max_size=140))
def test_a_token_needs_no_escaping_in_an_address(text: str) -> None:
    if is_token(text):
        assert quote(text, safe="") == text
        assert 1 <= len(text) <= 128


@pytest.mark.parametrize("text", ["", ".", "..", "a.gif", "A.GIF", "a b", "a/b", "a?b", "ä", "x" * 129, "a\n", "a%20"])
def test_what_could_be_lost_in_an_address_is_no_token(text: str) -> None:
    assert not is_token(text)


@pytest.mark.parametrize("text", ["uuid-string-here", "x" * 128, "..a", "a~b_c.d-e", "gif"])
def test_what_is_safe_in_an_address_is_a_token(text: str) -> None:
    assert is_token(text)
