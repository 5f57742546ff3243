from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking import signing
from tracking.signing import sign, verify

KEY, OTHER = bytes(range(32)), bytes(32)
texts = st.text(max_size=40)

GOLDEN = "57unu3bkvtoto5tldxwla7rb3y"


def test_what_was_signed_once_verifies_for_ever() -> None:
    """Links in sent mail outlive every version of this program: never change this value."""
    assert sign(KEY, "uuid-token", "https://example.com/offer?a=1", "2") == GOLDEN
    assert verify([KEY], "uuid-token", "https://example.com/offer?a=1", "2", GOLDEN)


@given(texts, texts, texts)
def test_a_signature_verifies_with_its_key_among_others_in_any_letter_case(token: str, url: str, position: str) -> None:
    token = token.encode("utf-8", "replace").decode()
    signature = sign(KEY, token, url.encode("utf-8", "replace").decode(), position.encode("utf-8", "replace").decode())
    url, position = url.encode("utf-8", "replace").decode(), position.encode("utf-8", "replace").decode()
    assert verify([OTHER, KEY], token, url, position, signature)
    assert verify([KEY], token, url, position, signature.upper())
    assert not verify([OTHER], token, url, position, signature)
    assert not verify([], token, url, position, signature)


@given(st.integers(0, 25), st.characters())
def test_a_changed_signature_does_not_verify(index: int, character: str) -> None:
    signature = sign(KEY, "t", "https://example.com/", "")
    changed = signature[:index] + character + signature[index + 1 :]
    assert verify([KEY], "t", "https://example.com/", "", changed) == (changed.lower() == signature and changed.isascii())


@given(st.text(max_size=40))
def test_any_text_as_a_signature_is_no_error(signature: str) -> None:
    assert not verify([KEY], "t", "https://example.com/", "", signature)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c", ""), ("a", "bc", "")),
        (("a", "b1", ""), ("a", "b", "1")),
        (("a", "b", "1:c"), ("a", "b1:", "c")),
        (("a1:b", "c", ""), ("a", "b1:c", "")),
    ],
)
def test_nothing_can_be_moved_from_one_part_into_another(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert sign(KEY, *one) != sign(KEY, *other)


def test_signatures_are_compared_in_constant_time(monkeypatch) -> None:
    compared = []
    monkeypatch.setattr(signing.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or hmac.__name__ == "")
    assert not verify([KEY, OTHER], "t", "u", "", sign(KEY, "t", "u"))
    assert len(compared) == 2
