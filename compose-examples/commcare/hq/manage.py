"""A small CommCare HQ: a form that is received has its row in PostgreSQL, its document in CouchDB, its XML in the blob store,
and, once `run_ptop` has seen it, its place in an index of Elasticsearch."""

import json
import os
import signal
import sys
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2
import requests

BLOBS = "/opt/data/blobdb"
COUCH = "http://couch:5984/commcarehq"
INDEX = "http://elasticsearch:9200/forms"


def database():
    with open(os.environ["POSTGRES_PASSWORD_FILE"], encoding="utf-8") as file:
        password = file.read().strip()
    return psycopg2.connect(
        host=os.environ["POSTGRES_HOST"], user="commcarehq", dbname="commcarehq", password=password
    )


def query(sql, *values):
    connection = database()
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def ask(method, url, **options):
    login = ("commcarehq", os.environ["COUCHDB_PASSWORD"]) if url.startswith(COUCH) else None
    return requests.request(method, url, auth=login, timeout=30, **options)


def migrate():
    query("CREATE TABLE IF NOT EXISTS form (id text PRIMARY KEY, domain text NOT NULL)")
    made = ask("PUT", COUCH)
    assert made.status_code in (201, 412), made.text


def receive(domain, xml):
    name = uuid.uuid4().hex
    with open(os.path.join(BLOBS, name), "w", encoding="utf-8") as file:
        file.write(xml)
    ask("PUT", f"{COUCH}/{name}", json={"doc_type": "XFormInstance", "domain": domain}).raise_for_status()
    query("INSERT INTO form VALUES (%s, %s)", name, domain)
    return name


def forms(domain):
    """All forms of a domain, put together from all stores."""
    found = []
    for (name,) in query("SELECT id FROM form WHERE domain = %s ORDER BY id", domain):
        document = ask("GET", f"{COUCH}/{name}")
        with open(os.path.join(BLOBS, name), encoding="utf-8") as file:
            xml = file.read()
        found.append({"id": name, "doc_type": document.json().get("doc_type"), "xml": xml})
    return found


def search():
    hits = ask("GET", f"{INDEX}/_search")
    return sorted(hit["_id"] for hit in hits.json()["hits"]["hits"]) if hits.ok else []


def check_services():
    """What the page of CommCare asks for after a restore."""
    problems = []
    for name, check in {
        "postgresql": lambda: query("SELECT count(*) FROM form"),
        "couch": lambda: ask("GET", COUCH).raise_for_status(),
        "elasticsearch": lambda: ask("GET", "http://elasticsearch:9200/_cluster/health").raise_for_status(),
        "blobdb": lambda: os.listdir(BLOBS),
    }.items():
        try:
            check()
            print(f"SUCCESS: {name}")
        except Exception as error:  # pylint: disable=broad-except
            problems.append(name)
            print(f"FAILURE: {name}: {error}")
    sys.exit(1 if problems else 0)


def run_ptop():
    seen = set()
    while True:
        try:
            for (name, domain) in query("SELECT id, domain FROM form"):
                if name not in seen:
                    ask("PUT", f"{INDEX}/_doc/{name}", json={"domain": domain}).raise_for_status()
                    seen.add(name)
        except (psycopg2.Error, requests.RequestException) as error:
            print(error)
        time.sleep(1)


class Handler(BaseHTTPRequestHandler):
    def respond(self):
        parts = self.path.strip("/").split("/")
        try:
            match self.command, parts:
                case "GET", ["serverup.txt"]:
                    query("SELECT 1")
                    status, answer = 200, "success"
                case "POST", ["a", domain, "receiver"]:
                    length = int(self.headers["Content-Length"])
                    status, answer = 201, {"id": receive(domain, self.rfile.read(length).decode())}
                case "GET", ["a", domain, "forms"]:
                    status, answer = 200, forms(domain)
                case "GET", ["search"]:
                    status, answer = 200, search()
                case _:
                    status, answer = 404, "not found"
        except Exception as error:  # pylint: disable=broad-except
            status, answer = 500, str(error)
        content = (json.dumps(answer) + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = respond

    def log_message(self, *_):
        pass


def runserver():
    migrate()
    ThreadingHTTPServer(("0.0.0.0", 9010), Handler).serve_forever()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    commands = {each.__name__: each for each in (check_services, migrate, run_ptop, runserver)}
    commands[sys.argv[1]]()
