"""The ledger's file: SQLite that survives a power cut, and is mended where it is damaged."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from updraft.devices.budgets.entry import Entry, Totals
from updraft.devices.usage import Usage
from updraft.errors import LedgerError

# Requests of older days are kept as one row per day.
KEPT_DAYS = 8

_TABLES = """
CREATE TABLE IF NOT EXISTS request (
    request_id TEXT PRIMARY KEY, day INTEGER NOT NULL, started_at REAL NOT NULL,
    ended_at REAL NOT NULL, latency_ms REAL NOT NULL, energy_j REAL NOT NULL,
    uplink_bytes INTEGER NOT NULL, downlink_bytes INTEGER NOT NULL,
    cloud_tokens INTEGER NOT NULL, tokens INTEGER NOT NULL, first_token_ms REAL,
    mode TEXT NOT NULL, energy_method TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS request_by_day ON request (day);
CREATE INDEX IF NOT EXISTS request_by_end ON request (ended_at);
CREATE TABLE IF NOT EXISTS day (
    day INTEGER PRIMARY KEY, requests INTEGER NOT NULL, tokens INTEGER NOT NULL,
    latency_ms REAL NOT NULL, energy_j REAL NOT NULL, uplink_bytes INTEGER NOT NULL,
    downlink_bytes INTEGER NOT NULL, cloud_tokens INTEGER NOT NULL
);
-- What counts for a day beyond its requests, since the clock was set.
CREATE TABLE IF NOT EXISTS carried (
    day INTEGER PRIMARY KEY, requests INTEGER NOT NULL, tokens INTEGER NOT NULL,
    latency_ms REAL NOT NULL, energy_j REAL NOT NULL, uplink_bytes INTEGER NOT NULL,
    downlink_bytes INTEGER NOT NULL, cloud_tokens INTEGER NOT NULL
);
"""
_COLUMNS = {"request": 13, "day": 8, "carried": 8}
_SUM = """
    SELECT count(*), coalesce(sum(tokens), 0), coalesce(sum(latency_ms), 0),
        coalesce(sum(energy_j), 0), coalesce(sum(uplink_bytes), 0),
        coalesce(sum(downlink_bytes), 0), coalesce(sum(cloud_tokens), 0)
    FROM request WHERE day = ?
"""
_FOLD = """
    INSERT INTO day SELECT day, count(*), sum(tokens), sum(latency_ms), sum(energy_j),
        sum(uplink_bytes), sum(downlink_bytes), sum(cloud_tokens)
    FROM request WHERE day < ? GROUP BY day
    ON CONFLICT (day) DO UPDATE SET
        requests = requests + excluded.requests, tokens = tokens + excluded.tokens,
        latency_ms = latency_ms + excluded.latency_ms, energy_j = energy_j + excluded.energy_j,
        uplink_bytes = uplink_bytes + excluded.uplink_bytes,
        downlink_bytes = downlink_bytes + excluded.downlink_bytes,
        cloud_tokens = cloud_tokens + excluded.cloud_tokens
"""
_LAST_ROW = 1 << 40
_PAGE_BYTES = 4096
# Where a file says which version of it its number of pages belongs to.
_VERSION_VALID_FOR = 92
# As many places of a damaged file are given up before it is left alone.
_MOST_FAILURES = 10_000


class LedgerFile:
    """An open ledger; use it from one thread at a time.

    A record is on the disk when `write` returns: a power cut loses nothing that was written.

    Attributes:
        mended: what became of a damaged file that was found here; None: it was whole.

    Raises:
        LedgerError: it cannot be opened or made.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.mended: str | None = None
        try:
            if read_only:
                self._connection = _open_read_only(path)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = self._open_or_mend()
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(f"ledger {path}: cannot be opened: {_explain(error)}") from error

    def write(self, entries: Iterable[tuple[int, Entry]]) -> None:
        """Add requests with their budget day, all or none; known ones are left as they are.

        Raises:
            LedgerError: the disk is full, read-only or broken; nothing was added.
        """
        rows = [
            (
                entry.request_id,
                day,
                entry.started_at,
                entry.ended_at,
                entry.usage.latency_ms,
                entry.usage.energy_j,
                entry.usage.uplink_bytes,
                entry.usage.downlink_bytes,
                entry.usage.cloud_tokens,
                entry.tokens,
                entry.first_token_ms,
                entry.mode,
                entry.energy_method,
            )
            for day, entry in entries
        ]
        self._change(_insert("request"), rows)

    def carry(self, day: int, totals: Totals) -> None:
        """Let a day count more than its requests.

        Raises:
            LedgerError: it could not be written.
        """
        self._change(
            _insert("carried").replace("IGNORE", "REPLACE"),
            [(day, totals.requests, totals.tokens, *_amounts(totals.usage))],
        )

    def knows(self, request_id: str) -> bool:
        """Whether a request was recorded already."""
        found = self._rows("SELECT 1 FROM request WHERE request_id = ?", request_id)
        return bool(found)

    def totals(self, day: int) -> Totals:
        """Return what a day's requests cost, and what was carried to it."""
        parts = self._rows(_SUM, day)
        parts += [row[1:] for row in self._rows("SELECT * FROM day WHERE day = ?", day)]
        parts += [row[1:] for row in self._rows("SELECT * FROM carried WHERE day = ?", day)]
        return sum(map(_totals, parts), Totals())

    def recent(self, since: float, until: float) -> list[tuple[float, float, float, int]]:
        """Return start, end, joules and cloud tokens of requests that ended in a time."""
        query = (
            "SELECT started_at, ended_at, energy_j, cloud_tokens FROM request "
            "WHERE ended_at BETWEEN ? AND ?"
        )
        return self._rows(query, since, until)

    def last(self) -> tuple[float, int] | None:
        """Return when the request that was written last ended, and its budget day."""
        query = "SELECT ended_at, day FROM request ORDER BY rowid DESC LIMIT 1"
        found = self._rows(query)
        return found[0] if found else None

    def version(self) -> int:
        """Return a number that changes when another process writes."""
        return self._rows("PRAGMA data_version")[0][0]

    def fold(self, before_day: int) -> None:
        """Keep only the sums of days before `before_day`.

        Raises:
            LedgerError: it could not be written; nothing has changed.
        """
        self._change(_FOLD, [(before_day,)], "DELETE FROM request WHERE day < ?")

    def close(self) -> None:
        """Close it; idempotent."""
        self._connection.close()

    def _rows(self, query: str, *values: object) -> list[tuple]:  # type: ignore[type-arg]
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise LedgerError(f"ledger {self.path}: cannot be read: {error}") from error

    def _change(self, change: str, rows: list[tuple], then: str | None = None) -> None:  # type: ignore[type-arg]
        try:
            try:
                self._apply(change, rows, then)
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                self._connection.close()
                self._connection = self._open_or_mend()
                self._apply(change, rows, then)
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(f"ledger {self.path}: cannot be written: {error}") from error

    def _apply(self, change: str, rows: list[tuple], then: str | None) -> None:  # type: ignore[type-arg]
        with self._connection:
            self._connection.executemany(change, rows)
            if then is not None:
                self._connection.executemany(then, rows)

    def _open_or_mend(self) -> sqlite3.Connection:
        try:
            return _open(self.path)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
        aside = _free_name(self.path)
        for suffix in ("", "-wal", "-shm"):
            part = Path(f"{self.path}{suffix}")
            if part.exists():
                part.replace(f"{aside}{suffix}")
        connection = _open(self.path)
        saved = _salvage(aside, connection)
        self.mended = (
            f"ledger {self.path}: was damaged; {saved} records were saved into a new one, the "
            f"damaged file is kept as {aside}"
        )
        return connection


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=5, check_same_thread=False)
    try:
        # Every commit reaches the disk before it counts; readers never wait for a writer.
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        connection.executescript(_TABLES)
        for table, columns in _COLUMNS.items():
            if len(connection.execute(f"PRAGMA table_info({table})").fetchall()) != columns:
                raise sqlite3.DatabaseError(f"table {table!r} is not as this version writes it")
        # Says whether the disk can be written before anything depends on it.
        connection.execute("PRAGMA user_version = 1")
    except BaseException:
        connection.close()
        raise
    return connection


def _open_read_only(path: Path) -> sqlite3.Connection:
    """Open a ledger on a disk that cannot be written."""
    error: sqlite3.Error | None = None
    # A file that was closed in order has no write-ahead log, and is read as it stands.
    for choice in ("mode=ro", "immutable=1"):
        try:
            uri = f"{path.absolute().as_uri()}?{choice}"
            connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
            connection.execute("SELECT count(*) FROM request").fetchone()
            return connection
        except sqlite3.Error as failed:
            error = failed
    assert error is not None, "one of the two was tried"
    raise error


def _is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is at fault, not the disk or another process."""
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(
        error, sqlite3.OperationalError
    )


def _salvage(damaged: Path, into: sqlite3.Connection) -> int:
    """Copy every row that can still be read; returns how many."""
    with tempfile.TemporaryDirectory(dir=damaged.parent) as folder:
        source = _readable_copy(damaged, Path(folder))
        try:
            saved = 0
            for table in _COLUMNS:
                with into:
                    for row in _rows_left(source, table):
                        saved += into.execute(_insert(table), row).rowcount
            return saved
        finally:
            source.close()


def _readable_copy(damaged: Path, folder: Path) -> sqlite3.Connection:
    """Open a copy of a damaged file as far as it can be opened."""
    copy = folder / "copy"
    for suffix in ("", "-wal"):
        if (part := Path(f"{damaged}{suffix}")).exists():
            shutil.copyfile(part, f"{copy}{suffix}")
    source = _open_lenient(copy)
    try:
        source.execute("SELECT rowid FROM request LIMIT 1").fetchone()
    except sqlite3.Error:
        # The first page says where tables are; in every ledger they are in the same places.
        source.close()
        new = folder / "new"
        _open(new).close()
        with copy.open("r+b") as file:
            file.write(new.read_bytes()[:_PAGE_BYTES])
            file.seek(_VERSION_VALID_FOR)
            file.write(bytes(4))  # the number of pages follows from the size of the file
        source = _open_lenient(copy)
    return source


def _open_lenient(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    with suppress(sqlite3.Error):
        # Reads a file that is shorter than it should be.
        connection.execute("PRAGMA writable_schema = ON")
    return connection


def _rows_left(source: sqlite3.Connection, table: str) -> Iterable[tuple]:  # type: ignore[type-arg]
    """Give the rows of a damaged table, halving the stretches that cannot be read."""
    ranges, failures = [(0, _LAST_ROW)], 0
    while ranges and failures < _MOST_FAILURES:
        low, high = ranges.pop()
        query = f"SELECT * FROM {table} WHERE rowid BETWEEN ? AND ?"  # noqa: S608 - one of ours
        rows = []
        try:
            rows = source.execute(query, (low, high)).fetchall()
        except sqlite3.Error:
            failures += 1
            if low < high:
                middle = (low + high) // 2
                ranges += [(middle + 1, high), (low, middle)]
        yield from rows


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return aside


def _explain(error: Exception) -> str:
    """Say what is wrong where SQLite only says that something is."""
    if str(error) == "unable to open database file":
        return "it must be a file, in a folder that can be written to"
    return str(error)


def _insert(table: str) -> str:
    places = ", ".join("?" * _COLUMNS[table])
    return f"INSERT OR IGNORE INTO {table} VALUES ({places})"  # noqa: S608 - one of ours


def _amounts(usage: Usage) -> tuple[float, float, int, int, int]:
    return (
        usage.latency_ms,
        usage.energy_j,
        usage.uplink_bytes,
        usage.downlink_bytes,
        usage.cloud_tokens,
    )


def _totals(row: tuple) -> Totals:  # type: ignore[type-arg]
    return Totals(row[0], row[1], Usage(*row[2:]))
