"""What katsu and htsget share: persistent database connections, JSON over HTTP, a log file."""

import json
import logging
import os
import pathlib
import queue
import random
import re
import signal
import sys
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import psycopg2
from psycopg2.extras import RealDictCursor, execute_values

CONNECTIONS = 4
START_SECONDS = 60
LOG_DIRECTORY = pathlib.Path("/var/log/candig")


class Database:
    """Holds its connections open from start to end, as an application's pool does."""

    def __init__(self, application):
        self._parameters = {
            "host": os.environ["POSTGRES_HOST"],
            "dbname": os.environ["POSTGRES_DATABASE"],
            "user": os.environ["POSTGRES_USER"],
            "password": pathlib.Path(os.environ["POSTGRES_PASSWORD_FILE"]).read_text().strip(),
            "application_name": application,
            "connect_timeout": 5,
            "options": "-c timezone=UTC",
            "cursor_factory": RealDictCursor,
        }
        self._idle = queue.LifoQueue()
        for _ in range(CONNECTIONS):
            self._idle.put(self._connect_when_ready())

    def _connect_when_ready(self):
        give_up = time.monotonic() + START_SECONDS
        while True:
            try:
                return psycopg2.connect(**self._parameters)
            except psycopg2.OperationalError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.5)

    @contextmanager
    def transaction(self):
        """A cursor in a transaction of its own; committed when the block ends well."""
        connection = self._idle.get()
        try:
            if connection is None or connection.closed:
                connection = psycopg2.connect(**self._parameters)
            with connection, connection.cursor() as cursor:
                yield cursor
        except (psycopg2.OperationalError, psycopg2.InterfaceError):
            if connection is not None:
                connection.close()  # the next request makes a new one
            raise
        finally:
            self._idle.put(connection)

    def rows(self, query, *arguments):
        with self.transaction() as cursor:
            cursor.execute(query, arguments)
            return cursor.fetchall()

    def create(self, schema, seed):
        """Makes the tables on the first start, and fills them; one transaction, so all or nothing."""
        with self.transaction() as cursor:
            cursor.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
            if cursor.fetchone()["count"] == 0:
                cursor.execute(schema)
                seed(cursor)

    def summary(self, tables):
        """Row counts, and a checksum over every column of every row."""
        with self.transaction() as cursor:
            result = {}
            for table, key in tables.items():
                cursor.execute(
                    f"SELECT count(*) AS rows, md5(string_agg(t::text, chr(10) ORDER BY {key})) AS checksum"
                    f" FROM {table} AS t"
                )
                result[table] = dict(cursor.fetchone())
            return result


class Prose:
    """Sentences like those in a clinical record. The same seed gives the same sentences."""

    WORDS = (
        "biopsy lesion margin nodal resection cycle regimen tolerated adjuvant carboplatin grade nausea"
        " neutropenia imaging stable progression interval contrast enhancing lobe infiltrating ductal mutation"
        " reported consented follow-up palliative remission marker elevated hemoglobin platelet dose reduced"
        " held resumed referred oncology radiation fraction gray boost ipsilateral contralateral metastasis"
        " hepatic pulmonary osseous denies fatigue appetite weight performance status improved declined sample"
        " sequenced coverage panel germline somatic variant pathogenic uncertain significance counselled family"
    ).split()

    def __init__(self, seed):
        self.random = random.Random(seed)

    def choice(self, options):
        return options[self.random.randrange(len(options))]

    def date(self, first_year, last_year):
        year = self.random.randint(first_year, last_year)
        return f"{year}-{self.random.randint(1, 12):02}-{self.random.randint(1, 28):02}"

    def sentences(self, words):
        parts = []
        for _ in range(words):
            parts.append(self.choice(self.WORDS))
            if self.random.random() < 0.2:
                parts.append(f"{self.random.uniform(0.1, 250):.1f}")
        return " ".join(parts).capitalize() + "."

    def hexadecimal(self, digits):
        return f"{self.random.getrandbits(4 * digits):0{digits}x}"


def insert(cursor, table, columns, rows):
    execute_values(cursor, f"INSERT INTO {table} ({', '.join(columns)}) VALUES %s", rows, page_size=1000)


class NotFound(Exception):
    pass


class Unavailable(Exception):
    pass


def serve(name, routes):
    """Answers HTTP until SIGTERM. A route is (method, pattern, function(request))."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)sZ {name} %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
        handlers=[logging.StreamHandler(sys.stderr), logging.FileHandler(LOG_DIRECTORY / f"{name}.log")],
    )

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            address = urlsplit(self.path)
            self.query = {key: values[0] for key, values in parse_qs(address.query).items()}
            status, body = self.result(address.path)
            data = (json.dumps(body, default=str, indent=1) + "\n").encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            if address.path != "/health":
                logging.info("%s %s %s", self.command, self.path, status)

        def result(self, path):
            length = int(self.headers.get("Content-Length") or 0)
            try:
                self.body = json.loads(self.rfile.read(length)) if length else {}
                for method, pattern, function in routes:
                    match = re.fullmatch(pattern, path)
                    if match and method == self.command:
                        self.groups = match.groups()
                        return (201 if method == "POST" else 200), function(self)
                raise NotFound(path)
            except NotFound as error:
                return 404, {"error": f"not found: {error}"}
            except (json.JSONDecodeError, KeyError, psycopg2.DataError, psycopg2.IntegrityError) as error:
                return 400, {"error": f"{type(error).__name__}: {error}".strip()}
            except (psycopg2.Error, Unavailable) as error:
                return 503, {"error": str(error).strip()}

        do_GET = do_POST = answer

        def log_message(self, *arguments):
            pass

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    logging.info("started")
    try:
        ThreadingHTTPServer(("", 8000), Handler).serve_forever()
    finally:
        logging.info("stopped")
