"""Messages as lines of CSV, made by the database: in half the time that Python takes for it, and Python's lock is free meanwhile.

`campaigns.export` says what the cells are and makes the same lines by itself; a test compares the two.
"""

from __future__ import annotations

from typing import Any

from campaigns.records import MESSAGE_FIELDS

#: Cells that others write, which a spreadsheet might run.
TEXTS = frozenset({"recipient_email", "tracking_token", "bounce_subtype", "bounce_reason", "diagnostic_code"})
JSON_TEXTS = frozenset({"tags", "metadata"})
TIMES = frozenset(name for name in MESSAGE_FIELDS if name.endswith("_at"))

#: What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection; full-width signs too), also behind what it trims,
#: and control characters at the very beginning.
SIGNS = "=+-@＝＋－＠"
TRIMMED = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\ufeff\u200b\u200c\u200d\u200e\u200f\u2060"
CONTROLS = "\t\r\n"


def postgresql_lines(cursor: Any, campaign_id: int, after: int, limit: int) -> tuple[int, int, bytes]:
    """Lines of the messages whose ids follow `after`, at most `limit`: how many, the last id, the lines."""
    # so that the index of campaign and id is taken: see `CampaignRows.of_campaign`
    rows = f"FROM messages WHERE campaign_id = ANY('{{{campaign_id:d}}}') AND id > {after:d} ORDER BY campaign_id, id LIMIT {limit:d}"
    with cursor.db.wrap_database_errors, cursor.copy(f"COPY (SELECT {_POSTGRESQL_CELLS} {rows}) TO STDOUT (FORMAT csv)") as copy:
        lines = list(copy)  # COPY gives them one by one
    if not lines:
        return 0, after, b""
    text, last = b"".join(lines), int(bytes(lines[-1]).partition(b",")[0])
    if text.count(b"\n") == len(lines):
        return len(lines), last, text.replace(b"\n", b"\r\n")
    return len(lines), last, b"".join([bytes(line)[:-1] + b"\r\n" for line in lines])  # cells have newlines of their own


def writes_iso_dates(cursor: Any) -> bool:
    """Whether PostgreSQL writes dates as `postgresql_lines` needs them: it does unless somebody set another DateStyle."""
    return str(cursor.connection.info.parameter_status("DateStyle")).startswith("ISO")


def sqlite_lines(cursor: Any, campaign_id: int, after: int, limit: int) -> tuple[int, int, bytes]:
    """As `postgresql_lines`, but JSON is as SQLite has it: letters beyond ASCII are escaped."""
    cursor.execute(_SQLITE, [campaign_id, after, limit])
    count, last, text = cursor.fetchone()
    return count, last or after, text or b""


def _letters(letters: str) -> str:
    return "(" + ", ".join(f"'{letter}'" for letter in letters) + ")"


def _is_harmless(cell: str, collation: str = "") -> str:
    """Whether it begins with a letter or digit of ASCII (or what stands between Z and a): nearly all do, and that is soon seen."""
    return f"{cell} >= 'A' {collation} AND {cell} < '{{' {collation} OR {cell} >= '0' {collation} AND {cell} < ':' {collation}"


def _is_formula(cell: str) -> str:
    return f"substr({cell}, 1, 1) IN {_letters(CONTROLS)} OR substr(ltrim({cell}, '{TRIMMED}'), 1, 1) IN {_letters(SIGNS)}"


def _postgresql_cell(name: str) -> str:
    """COPY quotes it. It would quote an empty text too, to tell it from null."""
    if name in TIMES:  # as a text it takes half as long as by to_char(), but leaves zeros at the end away
        moment = f"timestamp 'epoch' + {name} * interval '1 ms'"
        text, exact = f"replace(({moment})::text, ' ', 'T') || 'Z'", f"""to_char({moment}, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
        return f"CASE WHEN {name} % 10 <> 0 OR {name} % 1000 = 0 THEN {text} ELSE {exact} END"
    if name in TEXTS:
        harmless = _is_harmless(name, 'COLLATE "C"')
        return f"CASE WHEN {harmless} THEN {name} WHEN {_is_formula(name)} THEN '''' || {name} ELSE NULLIF({name}, '') END"
    return name


def _sqlite_cell(name: str) -> str:
    """Null is an empty text to printf()."""
    quoted = f"""replace({name}, '"', '""') || '"'"""
    if name in TIMES:  # in whole numbers: how a float of seconds is rounded depends on the version
        rest = f"CASE {name} % 1000 WHEN 0 THEN 'Z' ELSE printf('.%03dZ', {name} % 1000) END"
        return f"CASE WHEN {name} IS NOT NULL THEN strftime('%Y-%m-%dT%H:%M:%S', {name} / 1000, 'unixepoch') || {rest} END"
    if name in JSON_TEXTS:
        return f"""CASE WHEN {name} IN ('[]', '{{}}') THEN {name} ELSE '"' || {quoted} END"""
    if name in TEXTS:
        special = " OR ".join(f"instr({name}, '{letter}')" for letter in ',"\r\n')
        formula = f"NOT ({_is_harmless(name)}) AND ({_is_formula(name)})"
        return f"""
            CASE WHEN {name} IS NOT NULL THEN CASE
                WHEN {special} THEN CASE WHEN {formula} THEN '"''' ELSE '"' END || {quoted}
                WHEN {formula} THEN '''' || {name}
                ELSE {name}
            END END
        """
    return name


_POSTGRESQL_CELLS = ", ".join(map(_postgresql_cell, MESSAGE_FIELDS))

_LINE = f"printf('{','.join(['%s'] * len(MESSAGE_FIELDS))}\r\n', {', '.join(map(_sqlite_cell, MESSAGE_FIELDS))})".replace("%", "%%")
#: The aggregate takes the lines in the order in which the inner query gives them. Bytes, so that nothing is decoded and encoded.
_SQLITE = f"""
    SELECT count(*), max(id), CAST(group_concat(line, '') AS BLOB)
    FROM (SELECT id, {_LINE} AS line FROM messages WHERE campaign_id = %s AND id > %s ORDER BY id LIMIT %s)
"""
