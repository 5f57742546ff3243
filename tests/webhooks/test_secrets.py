"""The shared secret: three headers that may carry it, one sentence for all that do not."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.exceptions import AuthenticationFailed

from tests.webhooks.conftest import ELSEWHERE, Post, counts, problem
from webhooks.providers import base

pytestmark = pytest.mark.django_db

SECRET = "your_sécret:here"
SETTINGS = {"sendgrid": "SENDGRID_WEBHOOK_SECRET", "gmail": "WEBHOOK_GMAIL_SECRET"}


def latin(text: str) -> str:
    """UTF-8 as a WSGI server hands it on."""
    return text.encode().decode("latin-1")


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


RIGHT = [
    {"HTTP_X_WEBHOOK_SECRET": latin(SECRET)},
    {"HTTP_AUTHORIZATION": latin(f"Bearer {SECRET}")},
    {"HTTP_AUTHORIZATION": latin(f"bearer  {SECRET}")},
    {"HTTP_AUTHORIZATION": basic("sendgrid", SECRET)},
    {"HTTP_AUTHORIZATION": basic("", SECRET)},
    {"HTTP_AUTHORIZATION": "Bearer other", "HTTP_X_WEBHOOK_SECRET": latin(SECRET)},
]
WRONG: list[dict[str, str]] = [
    {},
    {"HTTP_X_WEBHOOK_SECRET": ""},
    {"HTTP_X_WEBHOOK_SECRET": latin(SECRET)[:-1]},
    {"HTTP_X_WEBHOOK_SECRET": latin(SECRET).upper()},
    {"HTTP_AUTHORIZATION": "Bearer"},
    {"HTTP_AUTHORIZATION": "Bearer "},
    {"HTTP_AUTHORIZATION": latin(f"Token {SECRET}")},
    {"HTTP_AUTHORIZATION": latin(SECRET)},
    {"HTTP_AUTHORIZATION": basic(SECRET, "")},
    {"HTTP_AUTHORIZATION": basic(SECRET, "x")},
    {"HTTP_AUTHORIZATION": "Basic !!!"},
    {"HTTP_AUTHORIZATION": "Basic é"},
    {"HTTP_X_API_KEY": latin(SECRET)},
]


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("headers", RIGHT)
def test_the_secret_is_taken_in_each_of_its_headers(post: Post, configure: Callable[..., None], name: str, headers: dict[str, str]) -> None:
    configure(**{SETTINGS[name]: SECRET})
    response = post(name, {"test": True}, **ELSEWHERE, **headers)
    if name == "sendgrid":
        assert response.json() == counts(ignored=1)
    else:
        assert problem(response, 400).startswith("status is one of")


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("headers", WRONG)
def test_anything_else_is_refused_with_the_headers_to_use(
    post: Post, configure: Callable[..., None], name: str, headers: dict[str, str]
) -> None:
    configure(**{SETTINGS[name]: SECRET})
    response = post(name, {"test": True}, **headers)  # from this machine: a configured secret counts alone
    assert problem(response, 401) == "Send this webhook's secret as HTTP Basic password, `Authorization: Bearer` or `X-Webhook-Secret`."
    assert response["WWW-Authenticate"] == 'Basic realm="webhook"'


def test_one_provider_s_secret_opens_no_other(post: Post, configure: Callable[..., None]) -> None:
    configure(WEBHOOK_GMAIL_SECRET="for-gmail", SENDGRID_WEBHOOK_SECRET="for-sendgrid")
    problem(post("sendgrid", {"test": True}, HTTP_X_WEBHOOK_SECRET="for-gmail"), 401)
    assert post("sendgrid", {"test": True}, HTTP_X_WEBHOOK_SECRET="for-sendgrid").status_code == 200


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared, compare = [], hmac.compare_digest
    monkeypatch.setattr(base.hmac, "compare_digest", lambda one, other: compared.append((one, other)) or compare(one, other))
    base.check_shared_secret("s", {"X-Webhook-Secret": "s"})
    assert compared == [(b"s", b"s")]


@given(secret=st.text(min_size=1), sent=st.text(), as_basic=st.booleans())
def test_only_the_secret_itself_opens(secret: str, sent: str, as_basic: bool) -> None:
    headers = {"Authorization": basic("user", sent)} if as_basic else {"X-Webhook-Secret": latin(sent)}
    if sent == secret:
        base.check_shared_secret(secret, headers)
    else:
        with pytest.raises(AuthenticationFailed):
            base.check_shared_secret(secret, headers)


@given(header=st.text(st.characters(max_codepoint=255)), scheme=st.sampled_from(["Bearer ", "Basic ", ""]))
def test_no_header_breaks_the_check(header: str, scheme: str) -> None:
    with pytest.raises(AuthenticationFailed):
        base.check_shared_secret("a secret of many words", {"Authorization": scheme + header, "X-Webhook-Secret": header})
