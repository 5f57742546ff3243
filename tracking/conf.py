"""The settings of the service: names, defaults, parsing. Pure: it is read before Django is.

Sources, first wins: the environment, then the names below from one `.env` (in the working directory, else in the project
root). Relative paths start where the value was written: the working directory for the environment, the file's folder for
`.env`, the project root for defaults.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import warnings
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import environ

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

PROJECT_ROOT = Path(__file__).resolve().parent.parent

#: Every setting with its default. What is not here is not read, neither from the environment nor from `.env`.
DEFAULTS: dict[str, str] = {
    "TRACKING_DB_PATH": "tracking.db",
    "TRACKING_HOST": "0.0.0.0",
    "TRACKING_PORT": "5000",
    "TRACKING_DEBUG": "False",
    "SENDGRID_WEBHOOK_SECRET": "",
    "TRACKING_DATABASE_URL": "",
    "TRACKING_DATA_DIR": "",
    "TRACKING_BASE_URL": "",
    "TRACKING_SECRET_KEY": "",
    "TRACKING_SPOOL_FSYNC": "interval",
    "TRACKING_SPOOL_KEEP": "25h,1GB",
    "TRACKING_NGINX_LOGS": "",
    "TRACKING_SPOOL_URL": "",
    "TRACKING_CACHE_URL": "",
    "TRACKING_WORKERS": "",
    "TRACKING_TRUSTED_PROXIES": "",
    "TRACKING_ALLOWED_HOSTS": "*",
    "TRACKING_LOCAL_ACCESS": "True",
    "TRACKING_UNSIGNED_LINKS": "allow",
    "TRACKING_REDIRECT_HOSTS": "",
    "TRACKING_STORE_IP": "full",
    "TRACKING_LOG_FORMAT": "console",
    "WEBHOOK_GMAIL_SECRET": "",
}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class WrongSetting(ValueError):
    """A value that cannot be used. The text is one line that names the setting and says what would be right."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name


@dataclass(frozen=True)
class SpoolKeep:
    """How long applied segments stay: until either limit is met."""

    seconds: int
    bytes: int


class Conf:
    """One reading of the settings. Each property parses its own, once, and raises WrongSetting."""

    def __init__(self, environment: dict[str, str] | None = None, cwd: Path | None = None) -> None:
        environment = dict(os.environ) if environment is None else environment
        cwd = Path.cwd() if cwd is None else cwd
        self.dotenv = next((path for path in (cwd / ".env", PROJECT_ROOT / ".env") if path.is_file()), None)
        from_file = _read_dotenv(self.dotenv) if self.dotenv else {}
        self._values: dict[str, tuple[str, Path]] = {}
        for name, default in DEFAULTS.items():
            if name in environment:
                self._values[name] = (environment[name].strip(), cwd)
            elif name in from_file and self.dotenv:
                self._values[name] = (from_file[name].strip(), self.dotenv.parent)
            else:
                self._values[name] = (default, PROJECT_ROOT)

    def check(self) -> None:
        """Parse everything now, so that a wrong value stops the start and not the first request that needs it."""
        for name, attribute in vars(type(self)).items():
            if isinstance(attribute, cached_property):
                getattr(self, name)

    def text(self, name: str) -> str:
        return self._values[name][0]

    # -- where things are

    @cached_property
    def database_url(self) -> dict[str, object] | None:
        """Django's DATABASES entry for TRACKING_DATABASE_URL, None when the SQLite path is meant."""
        url = self.text("TRACKING_DATABASE_URL")
        if not url:
            return None
        scheme = url.partition(":")[0]
        if scheme in ("sqlite", "sqlite3", "file"):
            raise WrongSetting("TRACKING_DATABASE_URL", "is for PostgreSQL; for SQLite set TRACKING_DB_PATH=path/to/tracking.db")
        if scheme not in ("postgres", "postgresql"):
            raise WrongSetting("TRACKING_DATABASE_URL", "must look like postgresql://user:password@host:5432/name")
        try:
            config = dict(environ.Env.db_url_config(url))
        except (ValueError, KeyError) as error:
            raise WrongSetting("TRACKING_DATABASE_URL", f"cannot be read: {error}") from None
        if not config.get("NAME"):
            raise WrongSetting("TRACKING_DATABASE_URL", "names no database: postgresql://user:password@host:5432/name")
        if not self.text("TRACKING_SECRET_KEY"):
            raise WrongSetting("TRACKING_SECRET_KEY", "must be set with PostgreSQL, the same on every machine (50 random characters)")
        return config

    @cached_property
    def db_path(self) -> Path:
        """The SQLite file, absolute."""
        path = self._path("TRACKING_DB_PATH")
        if path is None:
            raise WrongSetting("TRACKING_DB_PATH", "is empty; the default is tracking.db")
        if path.is_dir():
            raise WrongSetting("TRACKING_DB_PATH", f"{path} is a folder; name a file in it")
        return path

    @cached_property
    def data_dir(self) -> Path | None:
        """A folder for spool and keys where one is set, or needed because the database is elsewhere."""
        path = self._path("TRACKING_DATA_DIR")
        if path is not None and path.exists() and not path.is_dir():
            raise WrongSetting("TRACKING_DATA_DIR", f"{path} is no folder")
        if path is None and self.database_url is not None:
            path = PROJECT_ROOT / "tracking-data"
        return path

    @cached_property
    def spool_dir(self) -> Path:
        return self.data_dir / "spool" if self.data_dir else self.db_path.with_name(self.db_path.name + "-spool")

    @cached_property
    def keys_file(self) -> Path:
        return self.data_dir / "keys" if self.data_dir else self.db_path.with_name(self.db_path.name + "-keys")

    # -- the server

    @cached_property
    def host(self) -> str:
        host = self.text("TRACKING_HOST")
        if not host or re.search(r"[\s/]", host):
            raise WrongSetting("TRACKING_HOST", f"must be an address or a host name, such as 0.0.0.0 or 127.0.0.1, not {host!r}")
        return host.strip("[]")

    @cached_property
    def port(self) -> int:
        return self._integer("TRACKING_PORT", 1, 65535)

    @cached_property
    def debug(self) -> bool:
        return self._boolean("TRACKING_DEBUG")

    @cached_property
    def workers(self) -> int:
        """Worker processes: as many as cores, four at most, unless set."""
        if not self.text("TRACKING_WORKERS"):
            return max(1, min(4, os.cpu_count() or 1))
        return self._integer("TRACKING_WORKERS", 1, 256)

    @cached_property
    def log_format(self) -> str:
        return self._choice("TRACKING_LOG_FORMAT", "console", "json")

    @cached_property
    def base_url(self) -> str:
        """The public address in generated links, without a slash at its end; "" where it follows the request."""
        url = self.text("TRACKING_BASE_URL").rstrip("/")
        if url:
            try:
                parts = urlsplit(url)
                right = parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
                _ = parts.port
            except ValueError:
                right = False
            if not right:
                raise WrongSetting("TRACKING_BASE_URL", "must be a full address such as https://tracking.example.com")
        return url

    @cached_property
    def default_base_url(self) -> str:
        """What links start with where no request tells: TRACKING_BASE_URL, else this machine."""
        return self.base_url or f"http://localhost:{self.port}"

    # -- the spool

    @cached_property
    def spool_fsync(self) -> str:
        return self._choice("TRACKING_SPOOL_FSYNC", "interval", "always")

    @cached_property
    def spool_keep(self) -> SpoolKeep:
        text = self.text("TRACKING_SPOOL_KEEP")
        match = re.fullmatch(r"(\d+)\s*([smhd])\s*,\s*(\d+)\s*([KMGT]?B)", text, re.IGNORECASE)
        if not match:
            raise WrongSetting("TRACKING_SPOOL_KEEP", "must be a time and a size, such as 25h,1GB")
        seconds = int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2].lower()]
        size = int(match[3]) * 1000 ** ["B", "KB", "MB", "GB", "TB"].index(match[4].upper())
        return SpoolKeep(seconds, size)

    # -- more than one machine

    @cached_property
    def spool_url(self) -> str:
        """The Redis that hits are shipped through; "" where each machine drains its own spool."""
        url = self._redis_url("TRACKING_SPOOL_URL")
        if url and self.database_url is None:
            raise WrongSetting("TRACKING_SPOOL_URL", "needs PostgreSQL (set TRACKING_DATABASE_URL): a SQLite file is of one machine")
        return url

    @cached_property
    def cache_url(self) -> str:
        """The Redis of Django's cache; "" for one in each process."""
        return self._redis_url("TRACKING_CACHE_URL")

    @cached_property
    def nginx_logs(self) -> Path | None:
        """The folder with the logs of nginx where it answers pixels itself; None where it does not."""
        path = self._path("TRACKING_NGINX_LOGS")
        try:
            if path is None or path.is_dir():
                return path
            problem = "is no folder"
        except OSError as error:
            problem = str(error.strerror)
        raise WrongSetting("TRACKING_NGINX_LOGS", f"{path}: {problem}")

    # -- who may do what

    @cached_property
    def secret_key(self) -> str:
        """Django's SECRET_KEY where it is set; "" where it is made once and kept in the keys file."""
        key = self.text("TRACKING_SECRET_KEY")
        if key and len(key) < 32:
            raise WrongSetting("TRACKING_SECRET_KEY", "is too short: use at least 32 random characters")
        return key

    @cached_property
    def trusted_proxies(self) -> tuple[Network, ...] | None:
        """Networks whose X-Forwarded-For is believed; None when unset (then loopback is)."""
        names = self._list("TRACKING_TRUSTED_PROXIES")
        try:
            return tuple(ipaddress.ip_network(name, strict=False) for name in names) or None
        except ValueError as error:
            raise WrongSetting("TRACKING_TRUSTED_PROXIES", f"must be addresses or networks, such as 10.0.0.0/8: {error}") from None

    @cached_property
    def allowed_hosts(self) -> list[str]:
        hosts = self._list("TRACKING_ALLOWED_HOSTS") or ["*"]
        for host in hosts:
            if not re.fullmatch(r"\*|\.?[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]", host):
                raise WrongSetting("TRACKING_ALLOWED_HOSTS", f"{host!r} is no host; write tracking.example.com, .example.com or *")
        return hosts

    @cached_property
    def local_access(self) -> bool:
        return self._boolean("TRACKING_LOCAL_ACCESS")

    @cached_property
    def unsigned_links(self) -> str:
        return self._choice("TRACKING_UNSIGNED_LINKS", "allow", "confirm", "refuse")

    @cached_property
    def redirect_hosts(self) -> frozenset[str]:
        hosts = [host.lower() for host in self._list("TRACKING_REDIRECT_HOSTS")]
        for host in hosts:
            if not re.fullmatch(r"(\*\.)?[a-z0-9_.-]+", host):
                raise WrongSetting("TRACKING_REDIRECT_HOSTS", f"{host!r} is no host; write example.com or *.example.com")
        return frozenset(hosts)

    @cached_property
    def store_ip(self) -> str:
        return self._choice("TRACKING_STORE_IP", "full", "truncated", "none")

    @cached_property
    def sendgrid_key(self) -> EllipticCurvePublicKey | None:
        """SendGrid's public key; None where SENDGRID_WEBHOOK_SECRET is a shared secret or unset.

        A value that begins like a key (all of SendGrid's do so) and is none would, taken for a secret, refuse every event.
        """
        value = self.text("SENDGRID_WEBHOOK_SECRET")
        if not value.startswith(("MF", "-----BEGIN")):
            return None
        from cryptography.exceptions import UnsupportedAlgorithm  # 50 ms that few need
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        try:
            key = load_der_public_key(base64.b64decode(value, validate=True))
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, EllipticCurvePublicKey):
            raise WrongSetting("SENDGRID_WEBHOOK_SECRET", "looks like a public key but is none; copy SendGrid's Verification Key whole")
        return key

    # -- parsing

    def _path(self, name: str) -> Path | None:
        value, base = self._values[name]
        return (base / Path(value).expanduser()).resolve() if value else None

    def _boolean(self, name: str) -> bool:
        value = self.text(name).lower()
        if value in ("true", "1", "yes", "on"):
            return True
        if value in ("false", "0", "no", "off", ""):
            return False
        raise WrongSetting(name, "must be True or False")

    def _integer(self, name: str, low: int, high: int) -> int:
        try:
            number = int(self.text(name))
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise WrongSetting(name, f"must be a number from {low} to {high}, not {self.text(name)!r}")
        return number

    def _choice(self, name: str, *choices: str) -> str:
        value = self.text(name).lower()
        if value not in choices:
            raise WrongSetting(name, f"must be one of {', '.join(choices)}, not {self.text(name)!r}")
        return value

    def _redis_url(self, name: str) -> str:
        url = self.text(name)
        if not url:
            return ""
        try:
            parts = urlsplit(url)
            host = parts.scheme in ("redis", "rediss") and parts.hostname and re.fullmatch(r"/?\d*", parts.path)
            right = bool(host or (parts.scheme == "unix" and parts.path))
            _ = parts.port
        except ValueError:
            right = False
        if not right:
            raise WrongSetting(name, "must look like redis://:password@host:6379/0")
        if find_spec("redis") is None:
            raise WrongSetting(name, "needs the package redis: pip install -e '.[redis]'")
        return url

    def _list(self, name: str) -> list[str]:
        return [item for item in re.split(r"[\s,]+", self.text(name)) if item]


def _read_dotenv(path: Path) -> dict[str, str]:
    """The file's names and values; nothing of it goes into the process's environment, so nobody inherits it."""

    class File(environ.Env):  # type: ignore[misc]
        ENVIRON: dict[str, str] = {}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of lines it cannot read; what is ours is checked below
        File.read_env(str(path))
    # A comment behind a value; django-environ's own way would also cut a password at its `#`.
    return {name: re.sub(r"\s+#.*", "", value) for name, value in File.ENVIRON.items()}
