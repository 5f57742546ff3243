"""SendGrid's signed requests: one it signed itself in 2020, and some of our own."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import time_machine
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaigns.models import Campaign, Event, Message
from tests.webhooks.conftest import ELSEWHERE, Post, counts, problem
from tracking.conf import Conf, WrongSetting

pytestmark = pytest.mark.django_db

REAL = Path(__file__).resolve().parents[3] / "shared" / "cases" / "sendgrid" / "signed_request.json"
NOW = 1_705_312_200
KEY = ec.generate_private_key(ec.SECP256R1())


def public(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = KEY) -> str:
    """As SendGrid shows it: DER in base64."""
    return base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def signed(body: bytes, at: int = NOW, key: ec.EllipticCurvePrivateKey = KEY) -> dict[str, str]:
    signature = key.sign(str(at).encode() + body, ec.ECDSA(SHA256()))
    return headers(base64.b64encode(signature).decode(), str(at))


def headers(signature: str, timestamp: str) -> dict[str, str]:
    return {
        "HTTP_X_TWILIO_EMAIL_EVENT_WEBHOOK_SIGNATURE": signature,
        "HTTP_X_TWILIO_EMAIL_EVENT_WEBHOOK_TIMESTAMP": timestamp,
        **ELSEWHERE,
    }


@pytest.fixture(autouse=True)
def _now() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def key(configure: Callable[..., None]) -> None:
    configure(SENDGRID_WEBHOOK_SECRET=public())


BODY = b'[{"event":"open","sg_message_id":"uuid-token","sg_event_id":"1"}]\r\n'


def refused(response: Any) -> None:
    detail = problem(response, 403)
    assert "X-Twilio-Email-Event-Webhook-Signature" in detail
    assert "X-Twilio-Email-Event-Webhook-Timestamp" in detail


def test_a_signed_request_is_taken(post: Post, key: None, message: Message) -> None:
    assert post("sendgrid", BODY, **signed(BODY)).json() == counts(accepted=1)


@pytest.mark.parametrize("off", [-300, 300])
def test_a_clock_that_is_five_minutes_off_is_believed(post: Post, key: None, message: Message, off: int) -> None:
    assert post("sendgrid", BODY, **signed(BODY, NOW + off)).json() == counts(accepted=1)


@pytest.mark.parametrize("off", [-301, 301, -7200, 10**9])
def test_a_request_of_another_time_is_refused(post: Post, key: None, message: Message, off: int) -> None:
    refused(post("sendgrid", BODY, **signed(BODY, NOW + off)))
    assert not Event.objects.exists()


def test_a_retry_after_hours_is_signed_anew_and_counted_once(post: Post, key: None, message: Message) -> None:
    assert post("sendgrid", BODY, **signed(BODY)).json() == counts(accepted=1)
    with time_machine.travel(NOW + 7200, tick=False):
        assert post("sendgrid", BODY, **signed(BODY, NOW + 7200)).json() == counts(duplicates=1)
    assert Event.objects.count() == 1


@pytest.mark.parametrize("index", [0, 10, 30, len(BODY) - 3, len(BODY) - 1])
def test_one_byte_changed_is_refused(post: Post, key: None, index: int) -> None:
    changed = bytearray(BODY)
    changed[index] ^= 1
    refused(post("sendgrid", bytes(changed), **signed(BODY)))


@pytest.mark.parametrize("body", [BODY.rstrip(), json.dumps(json.loads(BODY)).encode(), BODY + b" ", b""])
def test_a_body_that_was_written_anew_is_refused(post: Post, key: None, body: bytes) -> None:
    refused(post("sendgrid", body, **signed(BODY)))


def test_another_s_signature_is_refused(post: Post, key: None) -> None:
    refused(post("sendgrid", BODY, **signed(BODY, key=ec.generate_private_key(ec.SECP256R1()))))


def test_a_timestamp_moved_to_now_is_refused(post: Post, key: None) -> None:
    old = signed(BODY, NOW - 5000)
    refused(post("sendgrid", BODY, **{**old, "HTTP_X_TWILIO_EMAIL_EVENT_WEBHOOK_TIMESTAMP": str(NOW)}))


@pytest.mark.parametrize("timestamp", ["", "now", "-1", "1e9", f" {NOW}x", "٣", "9" * 5000, f"{NOW}.0"])
def test_a_timestamp_that_is_none_is_refused(post: Post, key: None, timestamp: str) -> None:
    refused(post("sendgrid", BODY, **{**signed(BODY), "HTTP_X_TWILIO_EMAIL_EVENT_WEBHOOK_TIMESTAMP": timestamp}))


def test_with_a_key_neither_secret_nor_local_rule_opens(post: Post, key: None) -> None:
    refused(post("sendgrid", BODY))
    refused(post("sendgrid", BODY, HTTP_X_WEBHOOK_SECRET=public()))
    refused(post("sendgrid", BODY, HTTP_AUTHORIZATION=f"Bearer {public()}"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(signature=st.binary(max_size=90).map(lambda raw: base64.b64encode(raw).decode()) | st.text(st.characters(max_codepoint=255)))
def test_no_signature_but_the_right_one_opens_or_breaks(signature: str, post: Post, key: None) -> None:
    refused(post("sendgrid", BODY, **headers(signature, str(NOW))))


# -- a request that SendGrid signed


@pytest.fixture
def real(configure: Callable[..., None]) -> dict[str, Any]:
    if not REAL.exists():
        pytest.skip(f"{REAL} is not there: the request that SendGrid signed lies beside the repository, not in it")
    request: dict[str, Any] = json.loads(REAL.read_text())
    configure(SENDGRID_WEBHOOK_SECRET=request["public_key"])
    request["raw"] = request["body"].encode()
    request["signed"] = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in request["headers"].items()} | ELSEWHERE
    request["at"] = int(request["headers"]["X-Twilio-Email-Event-Webhook-Timestamp"])
    return request


def test_what_sendgrid_signed_is_taken_at_its_time(post: Post, real: dict[str, Any], campaign: Campaign) -> None:
    with time_machine.travel(real["at"], tick=False):
        assert post("sendgrid", real["raw"], **real["signed"]).json() == counts(ignored=1)


def test_what_sendgrid_signed_belongs_to_the_message_with_the_stem_as_token(post: Post, real: dict[str, Any], message: Message) -> None:
    Message.objects.filter(pk=message.pk).update(tracking_token="LRzXl_NHStOGhQ4kofSm_A")
    with time_machine.travel(real["at"], tick=False):
        assert post("sendgrid", real["raw"], **real["signed"]).json() == counts(accepted=1)
    message.refresh_from_db()
    assert (message.status, message.bounce_type, message.bounce_reason) == ("bounced", "permanent", "Bounced Address")


@pytest.mark.parametrize("off", [-301, 301])
def test_what_sendgrid_signed_is_refused_at_another_time(post: Post, real: dict[str, Any], off: int) -> None:
    with time_machine.travel(real["at"] + off, tick=False):
        refused(post("sendgrid", real["raw"], **real["signed"]))


def test_what_sendgrid_signed_is_refused_when_it_was_changed(post: Post, real: dict[str, Any]) -> None:
    with time_machine.travel(real["at"], tick=False):
        for changed in (real["raw"].replace(b"world", b"w0rld"), real["raw"].strip(), json.dumps(json.loads(real["raw"])).encode()):
            refused(post("sendgrid", changed, **real["signed"]))


# -- the setting


def test_a_key_is_told_from_a_secret() -> None:
    assert Conf({"SENDGRID_WEBHOOK_SECRET": public()}).sendgrid_key is not None
    assert Conf({"SENDGRID_WEBHOOK_SECRET": "your_secret_here"}).sendgrid_key is None
    assert Conf({}).sendgrid_key is None


@pytest.mark.parametrize(
    "value",
    [
        "MFkw",
        "MF is how my secret begins",
        public()[:-8],
        public()[:60] + " " + public()[60:],
        public(rsa.generate_private_key(65537, 1024)).replace("MI", "MF", 1),
        "-----BEGIN PUBLIC KEY-----" + public() + "-----END PUBLIC KEY-----",
    ],
)
def test_what_looks_like_a_key_and_is_none_stops_the_start_with_one_line(value: str) -> None:
    with pytest.raises(WrongSetting) as wrong:
        Conf({"SENDGRID_WEBHOOK_SECRET": value}).check()
    assert str(wrong.value).startswith("SENDGRID_WEBHOOK_SECRET: ")
    assert "\n" not in str(wrong.value)
    assert value not in str(wrong.value)
