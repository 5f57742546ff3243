from __future__ import annotations

from pathlib import Path

import pytest

from tracking.conf import DEFAULTS, PROJECT_ROOT, Conf, SpoolKeep, WrongSetting


def conf(cwd: Path, **environment: str) -> Conf:
    return Conf(environment, cwd)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / ".env").write_text("")  # hides one of the project's own
    return tmp_path


def test_defaults_are_the_documented_ones(here: Path) -> None:
    one = conf(here)
    one.check()
    assert one.db_path == PROJECT_ROOT / "tracking.db"
    assert (one.host, one.port, one.debug) == ("0.0.0.0", 5000, False)
    assert one.spool_dir == PROJECT_ROOT / "tracking.db-spool"
    assert one.keys_file == PROJECT_ROOT / "tracking.db-keys"
    assert one.spool_keep == SpoolKeep(25 * 3600, 10**9)
    assert one.default_base_url == "http://localhost:5000"


def test_the_environment_wins_over_dotenv_and_dotenv_over_defaults(here: Path) -> None:
    (here / ".env").write_text("TRACKING_PORT=8000\nTRACKING_HOST=127.0.0.1 # behind a value\n# a comment\nexport TRACKING_DEBUG=true\n")
    one = conf(here, TRACKING_PORT="9000")
    assert (one.port, one.host, one.debug) == (9000, "127.0.0.1", True)


def test_a_secret_in_dotenv_may_hold_the_sign_of_a_comment(here: Path) -> None:
    (here / ".env").write_text("WEBHOOK_GMAIL_SECRET=abc#def\nTRACKING_DATABASE_URL=postgresql://u:p%23@db/x  # the big one\n")
    one = conf(here, TRACKING_SECRET_KEY="x" * 40)
    assert one.text("WEBHOOK_GMAIL_SECRET") == "abc#def"
    assert one.database_url
    assert (one.database_url["NAME"], one.database_url["PASSWORD"]) == ("x", "p#")


def test_dotenv_gives_only_names_of_ours_and_to_nobody_else(here: Path, monkeypatch) -> None:
    import os

    (here / ".env").write_text("DATABASE_URL=postgresql://somebody/else\nPATH=/nowhere\nTRACKING_PORT=8000\n")
    monkeypatch.delenv("TRACKING_PORT", raising=False)
    one = conf(here)
    assert one.database_url is None
    assert "TRACKING_PORT" not in os.environ
    assert os.environ["PATH"] != "/nowhere"


def test_relative_paths_start_where_the_value_was_written(here: Path) -> None:
    assert conf(here, TRACKING_DB_PATH="a/b.db").db_path == here / "a/b.db"
    below = here / "below"
    below.mkdir()
    (below / ".env").write_text("TRACKING_DB_PATH=../c.db\n")
    assert conf(below).db_path == here / "c.db"


def test_postgresql_keeps_spool_and_keys_in_a_folder_of_data(here: Path) -> None:
    one = conf(here, TRACKING_DATABASE_URL="postgresql://u:p@db:5433/tracking", TRACKING_SECRET_KEY="x" * 40)
    assert one.database_url
    assert (one.database_url["NAME"], one.database_url["HOST"], one.database_url["PORT"]) == ("tracking", "db", 5433)
    assert one.spool_dir == PROJECT_ROOT / "tracking-data" / "spool"
    assert conf(here, TRACKING_DATA_DIR="d").keys_file == here / "d" / "keys"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRACKING_PORT", "http"), ("TRACKING_PORT", "0"), ("TRACKING_PORT", "65536"), ("TRACKING_DEBUG", "maybe"),
        ("TRACKING_HOST", "a b"),
        ("TRACKING_HOST", ""), ("TRACKING_DB_PATH", ""), ("TRACKING_DB_PATH", "/"), ("TRACKING_DATABASE_URL", "mysql://x/y"),
        ("TRACKING_DATABASE_URL", "postgresql://host:5432"), ("TRACKING_DATABASE_URL", "sqlite:///x.db"), ("TRACKING_WORKERS", "none"),
        ("TRACKING_BASE_URL", "tracking.example.com"), ("TRACKING_BASE_URL", "https://[bad"), ("TRACKING_BASE_URL", "https://a:port"),
        ("TRACKING_SPOOL_KEEP", "25h"), ("TRACKING_SPOOL_KEEP", "1GB,25h"), ("TRACKING_SPOOL_FSYNC", "never"),
        ("TRACKING_SECRET_KEY", "short"),
        ("TRACKING_TRUSTED_PROXIES", "nginx"), ("TRACKING_UNSIGNED_LINKS", "maybe"), ("TRACKING_REDIRECT_HOSTS", "https://example.com/"),
        ("TRACKING_ALLOWED_HOSTS", "http://x/"), ("TRACKING_DATA_DIR", "/etc/passwd"),
        ("TRACKING_SPOOL_URL", "localhost:6379"), ("TRACKING_SPOOL_URL", "redis://"), ("TRACKING_SPOOL_URL", "redis://host:port"),
        ("TRACKING_SPOOL_URL", "redis://host/name"), ("TRACKING_SPOOL_URL", "redis://host"), ("TRACKING_CACHE_URL", "memcached://host"),
        ("TRACKING_STORE_IP", "half"), ("TRACKING_LOG_FORMAT", "xml"), ("TRACKING_LOCAL_ACCESS", "sometimes"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_line_that_names_the_setting(here: Path, name: str, value: str) -> None:
    with pytest.raises(WrongSetting) as caught:
        conf(here, **{name: value}).check()
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


def test_postgresql_needs_a_secret_of_its_own(here: Path) -> None:
    with pytest.raises(WrongSetting, match="TRACKING_SECRET_KEY"):
        conf(here, TRACKING_DATABASE_URL="postgresql://u:p@db/tracking").check()


def test_a_spool_in_redis_needs_postgresql_and_its_package(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracking.conf.find_spec", lambda name: name == "redis")
    shared = {"TRACKING_DATABASE_URL": "postgresql://u:p@db/tracking", "TRACKING_SECRET_KEY": "x" * 40}
    with pytest.raises(WrongSetting, match="PostgreSQL"):
        conf(here, TRACKING_SPOOL_URL="redis://host").check()
    url = "rediss://user:pass@host:6380/2"
    assert conf(here, TRACKING_SPOOL_URL=url, TRACKING_CACHE_URL="unix:///run/redis.sock", **shared).spool_url == url
    monkeypatch.setattr("tracking.conf.find_spec", lambda name: None)
    for name in ("TRACKING_SPOOL_URL", "TRACKING_CACHE_URL"):
        with pytest.raises(WrongSetting, match=rf"^{name}: needs the package redis: pip install"):
            conf(here, **{name: url}, **shared).check()


def test_every_setting_is_documented() -> None:
    page = (PROJECT_ROOT / "docs" / "settings.md").read_text()
    missing = [name for name in DEFAULTS if f"`{name}`" not in page]
    assert missing == []
