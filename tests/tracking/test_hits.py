"""The public addresses, through Django: what they answer and what they write."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.test import Client

from campaigns import lifecycle
from campaigns.events import EventKind, TrackingEvent
from campaigns.models import Event, Message
from tracking import keys, links
from tracking.ingest.drain import drain
from tracking.ingest.status import ingest_status
from tracking.spool import reader, writer
from tracking.spool.lines import Lost, parse_line

FAR = {"REMOTE_ADDR": "203.0.113.5"}


@pytest.fixture
def far() -> Client:
    """Somebody on the network, without any key."""
    return Client(**FAR)


def written() -> list[TrackingEvent | Lost]:
    folder = settings.CONF.spool_dir
    return [
        parse_line(line.data) for segment in reader.segments(folder) for line in reader.read_lines(segment.path, 0, segment.size, 10**5)
    ]


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch):
    def set_policy(unsigned: str, hosts: str = "") -> None:
        monkeypatch.setitem(settings.CONF.__dict__, "unsigned_links", unsigned)
        monkeypatch.setitem(settings.CONF.__dict__, "redirect_hosts", frozenset(hosts.split()))

    return set_policy


def path_of(link: str) -> str:
    return link[link.index("/track/") :]


# -- pixel


@pytest.mark.django_db
def test_the_pixel_is_the_same_whatever_the_token(far: Client, message: Message) -> None:
    answers = [far.get(f"/track/pixel/{token}") for token in ("uuid-token", "nobodys", "uuid-token.gif", "no%20token", "a/b/c", "x" * 500)]
    assert len({(answer.status_code, answer.content, str(sorted(answer.headers.items()))) for answer in answers}) == 1
    [answer] = answers[:1]
    assert (answer.status_code, answer["Content-Type"], len(answer.content), answer.content[:6]) == (200, "image/gif", 43, b"GIF89a")
    assert "no-store" in answer["Cache-Control"]
    assert "Set-Cookie" not in answer
    assert [event.token for event in written() if isinstance(event, TrackingEvent)] == ["uuid-token", "nobodys", "uuid-token"]


def test_a_hit_needs_no_database_and_keeps_what_judges_it(far: Client) -> None:
    far.get(
        "/track/pixel/tok",
        headers={"user-agent": "Mozilla/5.0 \xe9", "sec-purpose": "prefetch", "cookie": "secret=1", "x-forwarded-for": "6.6.6.6"},
    )
    far.head("/track/pixel/tok")
    opened, probed = written()
    assert isinstance(opened, TrackingEvent)
    assert (opened.kind, opened.ip, opened.user_agent, dict(opened.headers)) == (
        EventKind.OPENED, "203.0.113.5", "Mozilla/5.0 \xe9", {"sec-purpose": "prefetch"},
    )  # fmt: skip
    assert isinstance(probed, TrackingEvent)
    assert probed.method == "HEAD"


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_other_methods_are_no_hits(far: Client, method: str) -> None:
    assert getattr(far, method)("/track/pixel/tok").status_code == 405
    assert written() == []


def test_a_strange_host_does_not_break_a_mail(far: Client) -> None:
    assert far.get("/track/pixel/tok", headers={"host": "not a host"}).status_code == 200


def test_a_flood_of_random_tokens_leaves_no_row(far: Client, db: None) -> None:
    for number in range(200):
        assert far.get(f"/track/pixel/random-{number}").status_code == 200
    drain()
    assert ingest_status()["unknown_tokens"] == 200
    assert not Event.objects.exists()


def test_a_full_disk_is_answered(far: Client, monkeypatch) -> None:
    monkeypatch.setattr(writer.SpoolWriter, "append", lambda self, line: False)
    assert far.get("/track/pixel/tok").status_code == 200


# -- redirect, unsigned


@pytest.mark.django_db
@pytest.mark.parametrize("url", ["https://example.com", "https://example.com/a?b=1&c=ü x#y", "http://münchen.example/"])
@pytest.mark.parametrize("safe", ["/", ""])
def test_a_link_written_by_hand_redirects_and_answers_json(far: Client, message: Message, url: str, safe: str) -> None:
    answer = far.get(f"/track/redirect/uuid-token?url={quote(url, safe=safe)}")
    assert answer.status_code == 302
    assert json.loads(answer.content) == {"redirect": answer["Location"], "tracked": True}
    assert "no-store" in answer["Cache-Control"]
    assert answer["Location"].isascii()
    drain()
    event = Event.objects.select_related("link").get()
    assert event.link
    assert event.link.url == answer["Location"]


@pytest.mark.django_db
def test_the_example_of_the_documentation(far: Client, message: Message) -> None:
    answer = far.get("/track/redirect/uuid-token?url=https%3A%2F%2Fexample.com")
    assert (answer.status_code, answer["Location"]) == (302, "https://example.com")
    assert answer.json() == {"redirect": "https://example.com", "tracked": True}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", " javascript:alert(1)", "java\tscript:x", "data:text/html,x", "//evil.example", "https:evil.example", "ftp://x.example/",
     "http://[bad", "/relative", "http://a\r\nSet-Cookie: x=1", "https://" + "x" * 9000, "https://bank.example@evil.example/", ""],
)  # fmt: skip
def test_a_bad_target_is_a_page_and_never_a_location(far: Client, message: Message, url: str) -> None:
    answer = far.get(f"/track/redirect/uuid-token?url={quote(url, safe='')}")
    assert answer.status_code == 400
    assert "Location" not in answer
    assert "Set-Cookie" not in answer
    assert b"<h1>" in answer.content
    assert written() == []


@pytest.mark.django_db
@pytest.mark.parametrize("query", ["", "?", "?u=1", "?sig=abc", "?url", "?n=1&sig="])
def test_a_link_without_url_is_a_page(far: Client, message: Message, query: str) -> None:
    assert far.get(f"/track/redirect/uuid-token{query}").status_code == 400


@pytest.mark.django_db
@pytest.mark.parametrize("token", ["nobodys", "a/b", "%2e%2e", "x" * 200])
def test_an_unknown_token_without_signature_leads_nowhere(far: Client, token: str) -> None:
    answer = far.get(f"/track/redirect/{token}?url=https%3A%2F%2Fexample.com")
    assert answer.status_code == 404
    assert "Location" not in answer


@pytest.mark.django_db
def test_a_token_of_a_deleted_campaign_leads_nowhere_without_signature(far: Client, message: Message, monkeypatch) -> None:
    monkeypatch.setattr(lifecycle, "DELETE_CHUNK", 0)
    type(message.campaign).objects.filter(pk=message.campaign_id).update(deleted_at=1)
    assert far.get("/track/redirect/uuid-token?url=https%3A%2F%2Fexample.com").status_code == 404


@pytest.mark.django_db
def test_refuse_and_confirm(far: Client, message: Message, policy) -> None:
    address = "/track/redirect/uuid-token?url=https%3A%2F%2Fexample.com%2F%3Cscript%3E"
    policy("refuse")
    assert far.get(address).status_code == 404
    policy("confirm")
    asked = far.get(address)
    assert asked.status_code == 200
    assert "Location" not in asked
    assert b"https://example.com/&lt;script&gt;" in asked.content
    assert b"<script>" not in asked.content
    assert re.search(r"form-action [^;]*https:", asked["Content-Security-Policy"]), "or the browser stops the redirect of the form"
    assert written() == []
    answer = Client(enforce_csrf_checks=True, **FAR).post(address)
    assert (answer.status_code, answer["Location"]) == (302, "https://example.com/<script>")
    assert len(written()) == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("url", "status"),
    [("https://example.com/x", 302), ("https://EXAMPLE.com:8443/x", 302), ("https://shop.example.org/", 302), ("https://example.org/", 404),
     ("https://evil-example.com/", 404), ("https://example.com.evil.example/", 404), ("https://example.com@evil.example/", 400)],
)  # fmt: skip
def test_listed_hosts_go_straight_even_when_others_are_refused(far: Client, message: Message, policy, url: str, status: int) -> None:
    policy("refuse", "example.com *.example.org")
    assert far.get(f"/track/redirect/uuid-token?url={quote(url, safe='')}").status_code == status


@pytest.mark.django_db
def test_without_the_database_an_unsigned_link_asks_to_come_back(far: Client, message: Message, monkeypatch) -> None:
    def away(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(Message.objects, "living", away)
    answer = far.get("/track/redirect/uuid-token?url=https%3A%2F%2Fexample.com")
    assert (answer.status_code, answer["Retry-After"]) == (503, "10")


LEADING_NOWHERE = {
    400: "/track/redirect/uuid-token",
    404: "/track/redirect/uuid-token?url=https%3A%2F%2Fexample.com&sig=abc",
    503: "/track/redirect/uuid-token?url=https%3A%2F%2Fexample.com",
}


@pytest.fixture
def away(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(Message.objects, "living", fail)


@pytest.mark.parametrize("accept", ["application/json", "Application/Problem+JSON", "application/json, text/plain, */*"])
@pytest.mark.parametrize(("status", "address"), LEADING_NOWHERE.items())
def test_a_program_gets_a_problem_where_people_get_a_page(far: Client, away: None, status: int, address: str, accept: str) -> None:
    answer = far.get(address, headers={"accept": accept})
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
    problem = json.loads(answer.content)
    assert list(problem) == ["type", "title", "status", "detail"]
    assert (problem["status"], bool(problem["detail"])) == (status, True)
    assert (answer["Vary"], "no-store" in answer["Cache-Control"]) == ("Accept", True)
    assert answer.get("Retry-After") == ("10" if status == 503 else None)
    assert answer["Content-Length"] == str(len(answer.content))
    probed = far.head(address, headers={"accept": accept})
    assert (probed.status_code, probed.content, dict(probed.items())) == (status, b"", dict(answer.items()))


@pytest.mark.parametrize("accept", ["", "*/*", "text/html,application/xhtml+xml,*/*;q=0.8", "text/html, application/json", "image/webp"])
@pytest.mark.parametrize(("status", "address"), LEADING_NOWHERE.items())
def test_whoever_may_be_a_person_gets_a_page(far: Client, away: None, status: int, address: str, accept: str) -> None:
    answer = far.get(address, headers={"accept": accept})
    assert (answer.status_code, answer["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert b"<h1>" in answer.content
    assert (answer["Vary"], "no-store" in answer["Cache-Control"]) == ("Accept", True)
    assert answer.get("Retry-After") == ("10" if status == 503 else None)
    probed = far.head(address, headers={"accept": accept})
    assert (probed.status_code, probed["Content-Type"], probed["Vary"]) == (status, answer["Content-Type"], "Accept")


@pytest.mark.django_db
def test_an_unsigned_link_costs_one_query_and_no_transaction(far: Client, message: Message, django_assert_num_queries) -> None:
    with django_assert_num_queries(1):
        far.get("/track/redirect/uuid-token?url=https%3A%2F%2Fexample.com")


# -- redirect, signed


@pytest.mark.django_db
@pytest.mark.parametrize("url", ["https://example.com/a+b?c=d%20e&f=%2B", "https://example.com/ä?ö=ü", "https://example.com/" + "x" * 7900])
def test_a_signed_link_redirects_without_the_database_and_without_its_message(
    far: Client, url: str, monkeypatch, django_assert_num_queries
) -> None:
    link = links.link_url("nobody-knows-me", url, position="3")
    with django_assert_num_queries(0):
        answer = far.get(path_of(link))
    assert answer.status_code == 302
    assert answer["Location"] == re.sub("[^!-~]+", lambda m: quote(m[0]), url)
    [event] = written()
    assert isinstance(event, TrackingEvent)
    assert (event.kind, event.url, event.position) == (EventKind.CLICKED, answer["Location"], "3")


@pytest.mark.django_db
def test_a_signed_link_survives_a_rotation_of_keys(far: Client) -> None:
    link = path_of(links.link_url("tok", "https://example.com/"))
    keys.rotate()
    assert path_of(links.link_url("tok", "https://example.com/")) != link
    assert far.get(link).status_code == 302


@pytest.mark.django_db
def test_a_wrong_signature_leads_nowhere_even_with_a_known_token(far: Client, message: Message) -> None:
    link = path_of(links.link_url("uuid-token", "https://example.com/", position="1"))
    signature = link[-26:]
    other = path_of(links.link_url("uuid-token", "https://example.com/other", position="1"))[-26:]
    wrong = [
        *(link[:-26] + signature[:n] + ("a" if signature[n] != "a" else "b") + signature[n + 1 :] for n in range(26)),
        link[:-1], link[:-26] + other, link.replace("n=1", "n=2"), link.replace("&n=1", ""), link.replace("example.com", "evil.example"),
        link.replace("uuid-token", "uuid-token2"), link + "x",
    ]  # fmt: skip
    for address in wrong:
        answer = far.get(address)
        assert (answer.status_code, "Location" in answer) == (404, False), address
    assert written() == []
    assert far.get(link[:-26] + signature.upper()).status_code == 302


@pytest.mark.django_db
def test_head_of_a_link_answers_like_get_and_is_recorded_with_its_method(far: Client) -> None:
    link = path_of(links.link_url("tok", "https://example.com/"))
    answer = far.head(link)
    assert (answer.status_code, answer["Location"]) == (302, "https://example.com/")
    [event] = written()
    assert isinstance(event, TrackingEvent)
    assert event.method == "HEAD"


@pytest.mark.django_db
def test_scanners_are_led_like_people(far: Client) -> None:
    link = path_of(links.link_url("tok", "https://example.com/"))
    assert {far.get(link, headers={"user-agent": agent})["Location"] for agent in ("Barracuda Sentinel", "Mozilla/5.0", "")} == {
        "https://example.com/"
    }


@pytest.mark.django_db
def test_a_loss_is_said_in_the_answer(far: Client, monkeypatch) -> None:
    link = path_of(links.link_url("tok", "https://example.com/"))
    monkeypatch.setattr(writer.SpoolWriter, "append", lambda self, line: False)
    assert far.get(link).json() == {"redirect": "https://example.com/", "tracked": False}


@pytest.mark.django_db
def test_links_of_ours_hold_no_address_and_refuse_what_is_none() -> None:
    link = links.link_url("tok", "https://example.com/", "https://t.example/")
    assert link.startswith("https://t.example/track/redirect/tok?url=https%3A%2F%2Fexample.com%2F&sig=")
    assert links.pixel_url("tok") == "http://localhost:5000/track/pixel/tok"
    for wrong in (("a b", "https://example.com/"), ("tok", "javascript:x"), ("tok", "//example.com")):
        with pytest.raises(ValueError):
            links.link_url(*wrong)


# -- health


def test_health_is_exactly_this_and_needs_no_database(far: Client) -> None:
    answer = far.get("/health")
    assert (answer.content, answer["Content-Type"]) == (b'{"status":"healthy"}', "application/json")


@pytest.mark.django_db
def test_ready_tells_a_word_to_everybody_and_more_to_who_may_read(far: Client) -> None:
    assert far.get("/health/ready").json() == {"status": "ready"}
    assert Client().get("/health/ready").json()["database"] == "ok"


@pytest.mark.django_db
def test_not_ready_is_503_without_the_word_that_monitors_grep(far: Client, monkeypatch) -> None:
    def away() -> None:
        raise OperationalError("away")

    monkeypatch.setattr(connection, "ensure_connection", away)
    answer = far.get("/health/ready")
    assert answer.status_code == 503
    assert b"healthy" not in answer.content


@pytest.mark.django_db
def test_a_hit_is_in_the_very_next_read(far: Client, message: Message) -> None:
    far.get("/track/pixel/uuid-token")
    assert Client().get(f"/api/messages/{message.pk}").json()["status"] == "opened"
    far.get("/track/pixel/uuid-token")
    marked = Client().post(f"/api/messages/{message.pk}/clicked", {}, content_type="application/json").json()
    assert (marked["open_count"], marked["click_count"]) == (2, 1)


@pytest.mark.django_db
def test_a_read_that_misses_something_says_so(far: Client, message: Message, monkeypatch) -> None:
    from tracking.ingest import drain as drain_module

    def away(events: Any) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(drain_module, "apply", away)
    far.get("/track/pixel/uuid-token")
    answer = Client().get(f"/api/messages/{message.pk}")
    assert int(answer["Tracking-Pending"]) > 0
    assert answer.json()["status"] == "queued"
