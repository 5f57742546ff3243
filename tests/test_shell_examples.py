"""What a shell does with the service: sqlite3, cp, grep, ls, a log file, a proxy in front."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browsing import missing
from tests.tracking.running import RunningServer, free_port, until

pytestmark = pytest.mark.server


def shell(command: str, cwd: Path, check: bool = True) -> str:
    for program in ("sqlite3", "curl"):
        if program in command and not shutil.which(program):
            missing(program)
    return subprocess.run(["bash", "-c", command], cwd=cwd, check=check, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture
def server(tmp_path: Path):
    with RunningServer(tmp_path) as running:
        assert running.post("/api/campaigns", {"name": "Newsletter Q1 2024", "template_id": 1}).status == 201
        assert (
            running.post("/api/messages", {"campaign_id": 1, "recipient_email": "user@example.com", "tracking_token": "token-here"}).status
            == 201
        )
        yield running


def test_the_health_check_of_the_crontab_finds_its_word(server: RunningServer, tmp_path: Path) -> None:
    assert shell(f"curl -s http://localhost:{server.port}/health", tmp_path) == '{"status":"healthy"}'
    shell(f"curl -s http://localhost:{server.port}/health | grep -q healthy", tmp_path)
    server.stop()
    assert shell(f"curl -s http://localhost:{server.port}/health | grep -q healthy || echo restart", tmp_path) == "restart\n"


def test_sqlite3_reads_the_database_as_shown(server: RunningServer, tmp_path: Path) -> None:
    row = shell("""sqlite3 tracking.db "SELECT * FROM messages WHERE tracking_token='token-here';" """, tmp_path)
    assert "user@example.com" in row
    assert "token-here" in row
    shell("sqlite3 tracking.db 'ANALYZE;'", tmp_path)
    shell("sqlite3 tracking.db 'CREATE INDEX IF NOT EXISTS idx_messages_campaign_id ON messages(campaign_id);'", tmp_path)
    indexes = shell("sqlite3 tracking.db '.indexes messages'", tmp_path).split()
    assert indexes.count("idx_messages_campaign_id") == 1
    assert server.get("/track/pixel/token-here").status == 200
    assert server.get("/api/messages/1").json()["open_count"] == 1


def test_a_cp_of_the_quiet_database_is_whole_and_its_links_verify_elsewhere(server: RunningServer, tmp_path: Path) -> None:
    for _ in range(300):
        server.get("/track/pixel/token-here")
    until(lambda: not (tmp_path / "tracking.db-wal").exists() or (tmp_path / "tracking.db-wal").stat().st_size == 0, 20)
    shell("DATE=$(date +%Y%m%d); cp tracking.db tracking.db.backup.$DATE; gzip tracking.db.backup.$DATE", tmp_path)
    link = subprocess.run(
        [sys.executable, "-c", "from tracking import Database; print(Database().link_url('token-here', 'https://example.com/offer'))"],
        env=server.environment(), capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent,
    ).stdout.strip()  # fmt: skip
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shell(f"gunzip -c tracking.db.backup.*.gz > {elsewhere}/tracking.db", tmp_path)
    with RunningServer(elsewhere) as other:
        assert other.get("/api/messages/1").json()["open_count"] == 300
        reply = other.get(link[link.index("/track/") :])
        assert (reply.status, reply.headers["location"]) == (302, "https://example.com/offer")


def test_the_file_named_in_the_documentation_is_where_the_data_is(server: RunningServer, tmp_path: Path) -> None:
    assert int(shell("ls -l tracking.db", tmp_path).split()[4]) > 100_000


NGINX = """
daemon off; pid {folder}/nginx.pid; error_log stderr; worker_processes 1;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    server {{
        listen 127.0.0.1:{port};
        server_name tracking.example.com;
        location / {{
            proxy_pass http://127.0.0.1:{upstream};
            proxy_set_header Host $host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
        location /bare/ {{ proxy_pass http://127.0.0.1:{upstream}/; }}
    }}
}}
"""


def test_behind_nginx_hits_and_health_are_public_and_the_api_asks_for_a_key(server: RunningServer, tmp_path: Path) -> None:
    if not shutil.which("nginx"):
        missing("nginx")
    port = free_port()
    (tmp_path / "nginx.conf").write_text(NGINX.format(folder=tmp_path, port=port, upstream=server.port))
    nginx = subprocess.Popen(["nginx", "-e", "stderr", "-c", str(tmp_path / "nginx.conf")], stderr=subprocess.PIPE)
    curl = f"curl -s -o out -w '%{{http_code}}' http://localhost:{port}"
    try:
        until(lambda: shell(f"{curl}/health", tmp_path, check=False) == "200", 10)
        assert (tmp_path / "out").read_text() == '{"status":"healthy"}'
        assert shell(f"{curl}/track/pixel/token-here", tmp_path) == "200"
        assert shell(f"{curl}/track/redirect/token-here?url=https%3A%2F%2Fexample.com", tmp_path) == "302"
        for path in ("/api/campaigns", "/dashboard", "/api/schema"):
            assert shell(f"{curl}{path}", tmp_path) in ("401", "403"), path
            assert "key create" in (tmp_path / "out").read_text(), path
        assert shell(f"{curl}/bare/api/campaigns", tmp_path) in ("401", "403"), "nor when the proxy says nothing of itself"
    finally:
        nginx.terminate()
        nginx.wait(10)
    message = server.get("/api/messages/1").json()
    assert (message["open_count"], message["click_count"]) == (1, 1)
