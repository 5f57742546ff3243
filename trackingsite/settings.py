"""Django's settings, all of them derived from `tracking.conf`: what an operator sets is listed there, not here."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.utils.functional import SimpleLazyObject

from tracking import keyfile
from tracking.conf import Conf, WrongSetting

BASE_DIR = Path(__file__).resolve().parent.parent

try:
    CONF = Conf()
    CONF.check()
except WrongSetting as error:
    raise ImproperlyConfigured(str(error)) from None


def _secret_key() -> str:
    if CONF.secret_key:
        return CONF.secret_key
    try:
        return keyfile.secret_key(CONF.keys_file)
    except OSError:  # a folder that cannot be written; whoever needs it to be says so
        return secrets.token_urlsafe(48)


#: Lazy, so that what needs no secret (`--help`, a type checker) makes no file for it.
SECRET_KEY = SimpleLazyObject(_secret_key)
#: Never Django's own DEBUG: the default host is 0.0.0.0, and its error pages show settings and code.
DEBUG = False
ALLOWED_HOSTS = CONF.allowed_hosts

INSTALLED_APPS = [
    "trackingsite.access",
    "campaigns",
    "tracking",
    "webhooks",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "csp",
    "django_filters",
    "django_htmx",
    "django_tables2",
    "django_typer",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "rest_framework",
]

MIDDLEWARE = [
    "tracking.metrics.middleware.count_requests",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "trackingsite.middleware.tolerate_trailing_slash",
    "trackingsite.middleware.believe_proxies",
    "trackingsite.middleware.say_what_is_allowed",
    "django.contrib.sessions.middleware.SessionMiddleware",
    # not CommonMiddleware: it refuses a pixel for its Host, where AccessMiddleware asks for the host only of what is not public
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "trackingsite.access.middleware.AccessMiddleware",
    "tracking.middleware.DrainBeforeReads",
]

ROOT_URLCONF = "trackingsite.urls"
WSGI_APPLICATION = "trackingsite.wsgi.application"
ASGI_APPLICATION = "trackingsite.asgi.application"
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "OPTIONS": {
            "loaders": (
                ["django.template.loaders.filesystem.Loader", "django.template.loaders.app_directories.Loader"]
                if CONF.debug
                else [
                    (
                        "django.template.loaders.cached.Loader",
                        ["django.template.loaders.filesystem.Loader", "django.template.loaders.app_directories.Loader"],
                    )
                ]
            ),
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

#: In seconds, but for the second one: a PostgreSQL that no packet comes back from is found out in less than a minute, and not in TCP's
#: quarter of an hour.
_NETWORK = {"connect_timeout": 5, "tcp_user_timeout": 10_000, "keepalives_idle": 20, "keepalives_interval": 5, "keepalives_count": 3}

if CONF.database_url:
    DATABASES: dict[str, dict[str, Any]] = {
        "default": {
            **CONF.database_url,
            "ENGINE": "trackingsite.postgresql",
            "CONN_MAX_AGE": 600,
            "CONN_HEALTH_CHECKS": True,
            "OPTIONS": {**_NETWORK, **CONF.database_url.get("OPTIONS", {})},  # type: ignore[dict-item]
        }
    }
else:
    DATABASES = {
        "default": {
            "ENGINE": "trackingsite.sqlite",
            "NAME": str(CONF.db_path),
            "CONN_MAX_AGE": None,
            "TEST": {"NAME": str(CONF.db_path) + ".test"},
        }
    }

if CONF.cache_url:
    CACHES = {"default": {"BACKEND": "trackingsite.cache.RedisCacheOrNone", "LOCATION": CONF.cache_url, "KEY_PREFIX": "tracking"}}
else:
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
#: Sessions stay in the database, cache or not: one that was ended must not come back with what a cache remembers of it.
SESSION_ENGINE = "django.contrib.sessions.backends.db"

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

USE_TZ = True
TIME_ZONE = "UTC"  # anything else makes Django change the zone of the whole process
LANGUAGE_CODE = "en-us"
USE_I18N = False

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True  # no collectstatic before a first run
WHITENOISE_AUTOREFRESH = CONF.debug
WHITENOISE_MAX_AGE = 3_600  # names carry no hash: after an upgrade a browser has the new ones within the hour

LOGIN_URL = "/admin/login/"
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_HTTPONLY = True
CSRF_COOKIE_HTTPONLY = False
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = CONF.base_url.startswith("https://")
CSRF_TRUSTED_ORIGINS = ["/".join(CONF.base_url.split("/")[:3])] if CONF.base_url else []
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")  # only of a proxy that is trusted: believe_proxies drops it else
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

#: API bodies; webhooks have a bound of their own.
DATA_UPLOAD_MAX_MEMORY_SIZE = 16 * 1024 * 1024

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": ["trackingsite.access.drf.AccessAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["trackingsite.access.drf.HasAccess"],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.LimitOffsetPagination",
    "PAGE_SIZE": 100,
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "trackingsite.negotiation.JsonUnlessAsked",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "trackingsite.problems.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Email tracking",
    "DESCRIPTION": "What happened to every message: delivered, opened, clicked, bounced, complained, unsubscribed.",
    "VERSION": "0.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}
DJANGO_TABLES2_TEMPLATE = "django_tables2/bootstrap5-responsive.html"

#: What `campaigns.apply` keeps of an address: full, truncated, none.
TRACKING_STORE_IP = CONF.store_ip

#: django-typer would put its coloured tracebacks into every process, servers' logs too.
DT_RICH_TRACEBACK_CONFIG = False

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "console": {"()": "trackingsite.logs.ConsoleFormatter"},
        "json": {"()": "trackingsite.logs.JsonFormatter"},
    },
    "filters": {"said": {"()": "trackingsite.logs.NotSaidAlready"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": CONF.log_format, "filters": ["said"]}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "tracking": {"level": "DEBUG" if CONF.debug else "INFO"},
        "django.request": {"level": "ERROR"},  # a 404 is the caller's, not ours
    },
}
