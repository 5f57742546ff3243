"""Whether a PostgreSQL answers: `python -m tests.postgresql URL`. In CI one that does not is a failure, elsewhere a sentence."""

from __future__ import annotations

import os
import sys

import psycopg


def main(url: str) -> int:
    try:
        with psycopg.connect(url.rsplit("/", 1)[0] + "/postgres", connect_timeout=3) as connection:
            version = connection.info.server_version
    except psycopg.OperationalError as error:
        print(f"No PostgreSQL at {url}: the tests of it were not run. {error}", file=sys.stderr)
        if os.environ.get("CI"):
            raise SystemExit("CI needs one.") from None
        return 1
    print(f"The same tests on PostgreSQL {version // 10_000}:")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
