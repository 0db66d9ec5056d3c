"""Stands in for a single node of CouchDB 3, and behaves as 3.3.3 and 3.4.3 were seen to.

Its files lie as CouchDB's do, and are appended to only: `shards/<range>/<database>.<suffix>.couch`, indexes in `.shards`,
shard maps in `_dbs.couch`, nodes in `_nodes.couch`. Each is lines of JSON, where CouchDB has a format of its own.

Like CouchDB it

- refuses to start without an administrator, and refuses a wrong login everywhere, also at `/_up`;
- is the node `nonode@nohost` where nobody names it;
- serves a database only when its shard map names this node, makes a shard whose file is missing anew, empty, and fails on an
  index that is ahead of its database;
- tells `_dbs_info` of no other reason than `not_found`;
- as a `single_node` ends a moment after its start when `_nodes.couch` names another node;
- in maintenance says so at `/_up`, and answers 412 for every database.
"""

import configparser
import glob
import json
import os
import sys
import threading
import time

from server import Refusal, serve

DATA = os.path.abspath(os.environ.get("COUCHDB_DATA", "data"))
LOCAL = "etc/local.d"
NODE = "couchdb@" + os.environ["NODENAME"] if os.environ.get("NODENAME") else "nonode@nohost"
VERSION = "3.4.2"
RANGES = ["00000000-7fffffff", "80000000-ffffffff"]
# How long a single node waits for others, in seconds.
PATIENCE = float(os.environ.get("STAND_IN_PATIENCE", "5"))
# A part of a path: whoever asks for that ends the server.
FRAIL = os.environ.get("STAND_IN_FRAIL")


def refuse(status, error, reason):
    raise Refusal(status, {"error": error, "reason": reason})


class File:
    """A database file: what was written last of a document counts."""

    def __init__(self, path):
        self.path = path
        self.documents = {}
        self.sequence = 0
        if os.path.exists(path):
            with open(path, encoding="utf-8") as lines:
                for line in lines:
                    # What was being written when a copy was made is not there.
                    if line.endswith("\n"):
                        self.take(json.loads(line))

    def take(self, document):
        self.documents[document["_id"]] = document
        self.sequence += 1

    def write(self, documents):
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as lines:
            for document in documents:
                lines.write(json.dumps(document) + "\n")
                self.take(document)
            lines.flush()
            os.fsync(lines.fileno())

    def put(self, name, document, revision):
        there = self.documents.get(name)
        present = there["_rev"] if there and not there.get("_deleted") else None
        if present != revision:
            refuse(409, "conflict", "Document update conflict.")
        number = int(there["_rev"].split("-")[0]) + 1 if there else 1
        revision = f"{number}-{os.urandom(8).hex()}"
        self.write([{**document, "_id": name, "_rev": revision}])
        return revision

    def put_all(self, documents):
        """What becomes of each is told for each."""
        told = []
        for document in documents:
            name = document["_id"]
            try:
                told.append({"ok": True, "id": name, "rev": self.put(name, document, document.get("_rev"))})
            except Refusal as refusal:
                told.append({"id": name, **refusal.body})
        return told

    def present(self):
        return {name: document for name, document in self.documents.items() if not document.get("_deleted")}

    def get(self, name):
        document = self.present().get(name)
        if document is None:
            refuse(404, "not_found", "missing")
        return document


os.makedirs(DATA, exist_ok=True)
FILES = {}


def file(*path):
    path = os.path.join(DATA, *path)
    if path not in FILES:
        FILES[path] = File(path)
    return FILES[path]


def maps():
    return file("_dbs.couch")


def nodes():
    return file("_nodes.couch")


def shards(name):
    """The files of a database on this node. One that is not there is made, empty."""
    if CONFIGURATION.get("couchdb", "maintenance_mode", fallback="false") == "true":
        refuse(412, "nodedown", "progress not possible")
    shard_map = maps().present().get(name)
    if shard_map is None:
        refuse(404, "not_found", "Database does not exist.")
    suffix = "".join(map(chr, shard_map["shard_suffix"]))
    found = {}
    for span, holders in shard_map["by_range"].items():
        if NODE not in holders:
            refuse(500, "internal_server_error", "No DB shards could be opened.")
        found[span] = shard("shards", span, name + suffix + ".couch")
    return found


def shard(*path):
    """One that is open stays so, whatever becomes of its file."""
    path = os.path.join(DATA, *path)
    is_open = path in FILES
    opened = file(path)
    if not is_open and not os.path.exists(path):
        opened.write([])
    return opened


def shard_of(name, document):
    return sorted(shards(name).items())[hash_of(document) % len(RANGES)][1]


def hash_of(text):
    return sum(text.encode())


def create(name):
    if name in maps().present():
        refuse(412, "file_exists", "The database could not be created, the file already exists.")
    suffix = f".{time.time_ns() // 1000}"
    for span in RANGES:
        path = os.path.join(DATA, "shards", span, name + suffix + ".couch")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "x", encoding="utf-8"):
            pass
    maps().put(
        name,
        {
            "shard_suffix": list(map(ord, suffix)),
            "changelog": [["add", span, NODE] for span in RANGES],
            "by_node": {NODE: RANGES},
            "by_range": {span: [NODE] for span in RANGES},
        },
        None,
    )


def delete(name):
    """The map goes first: whoever finds a database in it finds its files."""
    gone = list(shards(name).values())
    maps().put(name, {"_deleted": True}, maps().get(name)["_rev"])
    for shard in gone:
        os.remove(shard.path)
        del FILES[shard.path]


def info(name):
    documents = [document for shard in shards(name).values() for document in shard.documents.values()]
    deleted = sum(1 for document in documents if document.get("_deleted"))
    return {"db_name": name, "doc_count": len(documents) - deleted, "doc_del_count": deleted}


def told(name):
    try:
        return {"key": name, "info": info(name)}
    except Refusal:
        return {"key": name, "error": "not_found"}


def view(name, design, which):
    """Counts documents, with an index that is brought up to date when it is asked for."""
    total = 0
    for span, shard in shards(name).items():
        index = os.path.join(DATA, ".shards", span, os.path.basename(shard.path)[:-6] + "_design", "mrview", design + ".view")
        seen = 0
        if os.path.exists(index):
            with open(index, encoding="utf-8") as lines:
                seen = max((json.loads(line) for line in lines if line.endswith("\n")), default=0)
        if seen > shard.sequence:
            refuse(500, "internal_server_error", f"the index of {which} is ahead of its database")
        os.makedirs(os.path.dirname(index), exist_ok=True)
        with open(index, "a", encoding="utf-8") as lines:
            lines.write(f"{shard.sequence}\n")
        total += len(shard.present())
    return {"rows": [{"key": None, "value": total}]}


def up():
    mode = CONFIGURATION.get("couchdb", "maintenance_mode", fallback="false")
    status = {"true": "maintenance_mode", "nolb": "nolb"}.get(mode)
    return (404, {"status": status}) if status else (200, {"status": "ok", "seeds": {}})


def settings(section):
    values = dict(CONFIGURATION[section]) if CONFIGURATION.has_section(section) else {}
    if section == "couchdb":
        directory = os.environ.get("COUCHDB_DATA", "./data")
        values |= {"database_dir": directory, "view_index_dir": directory}
    if section == "admins":
        values = {user: "-pbkdf2-" + hash_of(password) * "0" for user, password in values.items()}
    return values


def answer(method, parts, query, body):
    if FRAIL and FRAIL in parts:
        print(f"no room for all of it: {parts}", flush=True)
        os._exit(1)
    match method, parts:
        case "GET" | "HEAD", []:
            return 200, {"couchdb": "Welcome", "version": VERSION, "vendor": {"name": "a stand-in"}}
        case "GET", ["_up"]:
            return up()
        case "GET", ["_all_dbs"]:
            return 200, sorted(maps().present())
        case "POST", ["_dbs_info"]:
            if len(body["keys"]) > 100:
                refuse(400, "bad_request", "`keys` member must not be longer than 100")
            return 200, [told(name) for name in body["keys"]]
        case "GET", ["_membership"]:
            return 200, {"all_nodes": [NODE], "cluster_nodes": sorted(nodes().present())}
        case "GET", ["_node", "_local"]:
            return 200, {"name": NODE}
        case "GET", ["_node", "_local", "_config", section]:
            return 200, settings(section)
        case "GET", ["_node", "_local", "_dbs", "_all_docs"]:
            found = sorted(maps().present().items())
            begin = int(query.get("skip", 0))
            page = found[begin : begin + int(query.get("limit", len(found)))]
            rows = [{"id": name, "key": name, "value": {"rev": each["_rev"]}, "doc": each} for name, each in page]
            return 200, {"total_rows": len(found), "offset": begin, "rows": rows}
        case "POST", ["_node", "_local", "_dbs", "_bulk_docs"]:
            return 201, maps().put_all(body["docs"])
        case _, ["_node", "_local", "_dbs", name]:
            return document(method, maps(), name, query, body)
        case _, ["_node", "_local", "_nodes", name]:
            return document(method, nodes(), name, query, body)
        case "PUT", [name]:
            create(name)
            return 201, {"ok": True}
        case "GET" | "HEAD", [name]:
            return 200, info(name)
        case "DELETE", [name]:
            delete(name)
            return 200, {"ok": True}
        case "GET", [name, "_shards"]:
            return 200, {"shards": maps().get(name)["by_range"]}
        case "GET", [name, "_design", design, "_view", which]:
            return 200, view(name, design, which)
        case _, [name, *rest] if rest:
            each = "/".join(rest)
            return document(method, shard_of(name, each), each, query, body)
    refuse(404, "not_found", "missing")


def document(method, store, name, query, body):
    if method in ("GET", "HEAD"):
        return 200, store.get(name)
    if method == "DELETE":
        store.get(name)
        revision = store.put(name, {"_deleted": True}, query.get("rev"))
        return 200, {"ok": True, "id": name, "rev": revision}
    revision = store.put(name, body, body.get("_rev"))
    return 201, {"ok": True, "id": name, "rev": revision}


def look_like_couchdb():
    """What the engine lists of it: the name of the process, and what stands in its command line."""
    program = "/srv/beam.smp"
    if os.path.basename(sys.argv[0]) == "main.py" and len(sys.argv) == 1:
        release = f"/opt/couchdb/releases/{VERSION}/couchdb"
        os.execv(program, [program, sys.argv[0], "-boot", release, "-name", NODE])


def configuration():
    """As the official image: what the environment says is written to the configuration, and read from there."""
    user, password = os.environ.get("COUCHDB_USER"), os.environ.get("COUCHDB_PASSWORD")
    if user and password:
        with open(f"{LOCAL}/docker.ini", "w", encoding="utf-8") as lines:
            lines.write(f"[admins]\n{user} = {password}\n")
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read(sorted(glob.glob(f"{LOCAL}/*.ini")))
    if not parser.has_section("admins"):
        sys.exit("ERROR: CouchDB 3.0+ will no longer run in Admin Party mode. You must create an administrator.")
    return parser


def end_without_the_others(others):
    time.sleep(PATIENCE)
    print(f"[error] {NODE} <0.254.0> -------- Supervisor setup_sup had child setup started with waiting for {others}", flush=True)
    print('{"init terminating in do_boot",{setup_error,"Cluster setup timed out waiting for nodes to connect"}}', flush=True)
    for line in range(6):
        print(f"init terminating in do_boot: more of what nobody reads, line {line}", flush=True)
    os._exit(1)


if __name__ == "__main__":
    look_like_couchdb()
    CONFIGURATION = configuration()
    if NODE not in nodes().present():
        nodes().put(NODE, {}, None)
    others = sorted(set(nodes().present()) - {NODE})
    if others and CONFIGURATION.get("couchdb", "single_node", fallback="false") == "true":
        threading.Thread(target=end_without_the_others, args=[others], daemon=True).start()
    serve(
        5984,
        answer,
        dict(CONFIGURATION["admins"]),
        is_open=lambda path: path in ("/", "/_up"),
        denied={"error": "unauthorized", "reason": "Name or password is incorrect."},
    )
