"""Stands in for a single node of Elasticsearch 8, or of OpenSearch 2 where `STAND_IN_FOR=opensearch` is set.

Settings come from the environment under their own names, as the official image has it: `path.repo`,
`xpack.security.http.ssl.enabled`, and `ELASTIC_PASSWORD`. Snapshots and restores go on by themselves after they were asked
for, take a second, and lie in a repository as the real ones do: `index-<n>`, `index.latest`, `snap-<uuid>.dat`,
`meta-<uuid>.dat`, and blobs below `indices/`.

As the reference of Elasticsearch has it:

- what is being saved into a snapshot can be neither deleted nor closed;
- a closed index is restored over only by one with as many shards, and an open one never;
- a data stream is made, and gets its next index, only where a template for data streams fits its name. It is restored without.
"""

import fnmatch
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
import uuid

from server import LOCK, Refusal, serve

DATA = os.path.abspath("data")
ALLOWED = [place for place in os.environ.get("path.repo", "").split(",") if place]
IS_OPENSEARCH = os.environ.get("STAND_IN_FOR") == "opensearch"
WORK = float(os.environ.get("STAND_IN_SECONDS", "1"))

# While this file is there, the next shard that is restored is lost.
LOSS = "/tmp/lose-a-shard"

INDICES = {}
STREAMS = {}
TEMPLATES = {}
REPOSITORIES = {}
RUNNING = {}


def refuse(status, kind, reason):
    cause = {"type": kind, "reason": reason}
    raise Refusal(status, {"error": {"root_cause": [cause], **cause}, "status": status})


def write(path, value):
    """All or nothing."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".tmp", "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".tmp", path)


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def save():
    state = {"indices": INDICES, "streams": STREAMS, "templates": TEMPLATES, "repositories": REPOSITORIES}
    write(os.path.join(DATA, "state.json"), state)


def load():
    path = os.path.join(DATA, "state.json")
    if os.path.exists(path):
        state = read(path)
        INDICES.update(state["indices"])
        STREAMS.update(state["streams"])
        TEMPLATES.update(state["templates"])
        REPOSITORIES.update(state["repositories"])


def index(name):
    for real, content in INDICES.items():
        if name == real or name in content["aliases"]:
            return content
    refuse(404, "index_not_found_exception", f"no such index [{name}]")


def new_index(aliases=(), shards=1):
    return {"aliases": list(aliases), "documents": {}, "shards": shards, "open": True, "health": "yellow", "details": None}


def shards_of(body):
    return (body or {}).get("settings", {}).get("index", {}).get("number_of_shards", 1)


def ensure_not_being_saved(names, verb, what="indices"):
    """`names`: of indices."""
    saved = {name for info in RUNNING.values() for name in info["indices"] if name in names}
    if saved:
        refuse(
            400,
            "snapshot_in_progress_exception",
            f"Cannot {verb} {what} that are being snapshotted: [{', '.join(sorted(saved))}]. "
            "Try again after snapshot finishes or cancel the currently running snapshot.",
        )


def template_of(stream):
    """The name of the template for data streams that fits best."""
    fitting = [
        (template.get("priority", 0), name)
        for name, template in TEMPLATES.items()
        if "data_stream" in template and any(fnmatch.fnmatchcase(stream, each) for each in template["index_patterns"])
    ]
    if not fitting:
        refuse(400, "illegal_argument_exception", f"no matching index template found for data stream [{stream}]")
    return max(fitting)[1]


class Repository:
    def __init__(self, name):
        if name not in REPOSITORIES:
            refuse(404, "repository_missing_exception", f"[{name}] missing")
        self.name = name
        self.root = REPOSITORIES[name]["settings"]["location"]

    @staticmethod
    def register(name, body):
        location = os.path.abspath(body["settings"]["location"])
        if not any(location == place or location.startswith(place.rstrip("/") + "/") for place in ALLOWED):
            known = f"[{', '.join(ALLOWED)}]" if ALLOWED else "because this setting is empty"
            refuse(
                500,
                "repository_exception",
                f"[{name}] location [{location}] doesn't match any of the locations specified by path.repo {known}",
            )
        try:
            os.makedirs(location, exist_ok=True)
            write(os.path.join(location, "tests-verify", "master.dat"), "it works")
            shutil.rmtree(os.path.join(location, "tests-verify"))
        except OSError as error:
            refuse(500, "repository_verification_exception", f"[{name}] path  is not accessible on master node: {error}")
        REPOSITORIES[name] = body
        save()

    def generation(self):
        try:
            return int(read(os.path.join(self.root, "index.latest")))
        except OSError:
            return -1

    def contents(self):
        generation = self.generation()
        return read(os.path.join(self.root, f"index-{generation}"))["snapshots"] if generation >= 0 else []

    def publish(self, snapshots):
        generation = self.generation() + 1
        write(os.path.join(self.root, f"index-{generation}"), {"snapshots": snapshots})
        write(os.path.join(self.root, "index.latest"), generation)
        old = os.path.join(self.root, f"index-{generation - 1}")
        if os.path.exists(old):
            os.remove(old)

    def all(self):
        running = [info for (name, _), info in RUNNING.items() if name == self.name]
        return self.contents() + running

    def find(self, snapshot):
        for info in self.all():
            if info["snapshot"] == snapshot:
                return info
        refuse(404, "snapshot_missing_exception", f"[{self.name}:{snapshot}] is missing")

    def create(self, snapshot, body):
        if snapshot != snapshot.lower() or re.search(r"[\s,#*?\"<>|\\/]", snapshot):
            refuse(400, "invalid_snapshot_name_exception", f"[{self.name}:{snapshot}] Invalid snapshot name, must be lowercase")
        if any(info["snapshot"] == snapshot for info in self.all()):
            refuse(400, "invalid_snapshot_name_exception", f"[{self.name}:{snapshot}] snapshot with the same name already exists")
        names, streams = [], []
        for name in body["indices"].split(","):
            if name in STREAMS:
                streams.append(name)
                names.extend(STREAMS[name])
            else:
                index(name)
                names.append(name)
        closed = [name for name in names if not INDICES[name]["open"]]
        if closed:
            refuse(400, "index_closed_exception", f"[{self.name}:{snapshot}] cannot create snapshot: indices {closed} are closed")
        info = {
            "snapshot": snapshot,
            "uuid": uuid.uuid4().hex[:22],
            "state": "IN_PROGRESS",
            "indices": names,
            "data_streams": streams,
            "include_global_state": body["include_global_state"],
            "failures": [],
            "shards": {"total": len(names), "failed": 0, "successful": 0},
        }
        # The moment that a snapshot shows is the one at which it begins.
        content = {name: json.loads(json.dumps(INDICES[name])) for name in names}
        RUNNING[self.name, snapshot] = info
        later(lambda: self.finish(info, content))

    def finish(self, info, content):
        if RUNNING.pop((self.name, info["snapshot"]), None) is None:
            return
        blobs = {}
        for name, value in content.items():
            blobs[name] = uuid.uuid4().hex[:22]
            write(os.path.join(self.root, "indices", blobs[name], "0", "__0"), value)
        write(os.path.join(self.root, f"meta-{info['uuid']}.dat"), {})
        write(os.path.join(self.root, f"snap-{info['uuid']}.dat"), {"blobs": blobs})
        red = [name for name, value in content.items() if value["health"] == "red"]
        info["state"] = "PARTIAL" if red else "SUCCESS"
        info["failures"] = [{"index": name, "shard_id": 0, "reason": "primary shard is not allocated"} for name in red]
        info["shards"] = {"total": len(content), "failed": len(red), "successful": len(content) - len(red)}
        self.publish(self.contents() + [info])

    def delete(self, snapshot):
        info = self.find(snapshot)
        RUNNING.pop((self.name, snapshot), None)
        self.publish([other for other in self.contents() if other["snapshot"] != snapshot])
        described = os.path.join(self.root, f"snap-{info['uuid']}.dat")
        if os.path.exists(described):
            for blob in read(described)["blobs"].values():
                shutil.rmtree(os.path.join(self.root, "indices", blob), ignore_errors=True)
            os.remove(described)
            os.remove(os.path.join(self.root, f"meta-{info['uuid']}.dat"))

    def restore(self, snapshot, body):
        info = self.find(snapshot)
        if info["state"] != "SUCCESS":
            refuse(500, "snapshot_restore_exception", f"[{self.name}:{snapshot}] unsupported snapshot state [{info['state']}]")
        wanted = body["indices"].split(",")
        streams = [name for name in info["data_streams"] if name in wanted]
        blobs = read(os.path.join(self.root, f"snap-{info['uuid']}.dat"))["blobs"]
        behind = {name for stream in streams for name in blobs if re.fullmatch(rf"\.ds-{re.escape(stream)}-\d+", name)}
        names = [name for name in info["indices"] if name in wanted or name in behind]
        for name in names:
            if name in INDICES and INDICES[name]["open"]:
                refuse(
                    500,
                    "snapshot_restore_exception",
                    f"[{self.name}:{snapshot}] cannot restore index [{name}] because an open index with same name already exists "
                    "in the cluster. Either close or delete the existing index or restore the index under a different name",
                )
        for name in names:
            with_shards = read(os.path.join(self.root, "indices", blobs[name], "0", "__0"))["shards"]
            if name in INDICES and INDICES[name]["shards"] != with_shards:
                refuse(
                    500,
                    "snapshot_restore_exception",
                    f"[{self.name}:{snapshot}] cannot restore index [{name}] with [{INDICES[name]['shards']}] shards from a snapshot of "
                    f"index [{name}] with [{with_shards}] shards",
                )
        for stream in streams:
            if stream in STREAMS:
                refuse(500, "snapshot_restore_exception", f"[{self.name}:{snapshot}] cannot restore data stream [{stream}]: it exists")
        for name in names:
            INDICES[name] = {**new_index(), "health": "red"}
        for stream in streams:
            STREAMS[stream] = [name for name in names if name.startswith(f".ds-{stream}-")]
        save()
        later(lambda: self.fill(names, blobs))

    def fill(self, names, blobs):
        for name in names:
            try:
                if os.path.exists(LOSS):
                    os.remove(LOSS)
                    raise ValueError("the disk is broken")
                INDICES[name] = {**read(os.path.join(self.root, "indices", blobs[name], "0", "__0")), "health": "yellow"}
            except (OSError, ValueError) as error:
                INDICES[name]["details"] = f"failed shard on node: failed to restore snapshot: {error}"
        save()


def later(work):
    def run():
        time.sleep(WORK)
        with LOCK:
            work()

    threading.Thread(target=run, daemon=True).start()


def health():
    initializing = [name for name, value in INDICES.items() if value["health"] == "red" and not value["details"]]
    return {
        "status": "red" if initializing else "yellow",
        "number_of_data_nodes": 1,
        "initializing_shards": len(initializing),
        "indices": {name: {"status": value["health"]} for name, value in INDICES.items()},
    }


def snapshots(method, parts, body):
    match method, parts:
        case "GET", []:
            return 200, REPOSITORIES
        case "PUT", [name]:
            Repository.register(name, body)
            return 200, {"acknowledged": True}
        case "GET", [name]:
            Repository(name)
            return 200, {name: REPOSITORIES[name]}
        case "DELETE", [name]:
            Repository(name)
            del REPOSITORIES[name]
            save()
            return 200, {"acknowledged": True}
        case "GET", [name, "_all"]:
            return 200, {"snapshots": Repository(name).all()}
        case "GET", [name, snapshot]:
            return 200, {"snapshots": [Repository(name).find(snapshot)], "total": 1, "remaining": 0}
        case "PUT", [name, snapshot]:
            Repository(name).create(snapshot, body)
            return 200, {"accepted": True}
        case "DELETE", [name, snapshot]:
            Repository(name).delete(snapshot)
            return 200, {"acknowledged": True}
        case "POST", [name, snapshot, "_restore"]:
            Repository(name).restore(snapshot, body)
            return 200, {"accepted": True}
    refuse(400, "illegal_argument_exception", "no handler found")


def answer(method, parts, query, body):
    match method, parts:
        case _, ["_snapshot", *rest]:
            return snapshots(method, rest, body)
        case "GET" | "HEAD", []:
            version = {"number": "2.17.0", "distribution": "opensearch"} if IS_OPENSEARCH else {"number": "8.15.3"}
            return 200, {"name": "a stand-in", "cluster_name": "docker-cluster", "version": version}
        case "GET", ["_nodes", "_local", "settings"]:
            settings = {"path": {"repo": ALLOWED}} if ALLOWED else {}
            return 200, {"nodes": {"node": {"name": "a stand-in", "settings": settings}}}
        case "GET", ["_cluster", "health"]:
            return 200, health()
        case "GET", ["_cluster", "allocation", "explain"]:
            for name, value in INDICES.items():
                if value["details"]:
                    return 200, {"index": name, "unassigned_info": {"details": value["details"]}}
            refuse(400, "illegal_argument_exception", "unable to find any unassigned shards to explain")
        case "GET", ["_cat", "indices"]:
            rows = [{"index": name, "status": "open" if value["open"] else "close"} for name, value in sorted(INDICES.items())]
            return 200, rows
        case "GET", ["_data_stream"]:
            streams = [{"name": name, "indices": [{"index_name": each} for each in STREAMS[name]]} for name in sorted(STREAMS)]
            return 200, {"data_streams": streams}
        case "PUT", ["_data_stream", name]:
            template_of(name)
            STREAMS[name] = [f".ds-{name}-000001"]
            INDICES[STREAMS[name][0]] = new_index()
            save()
            return 200, {"acknowledged": True}
        case "POST", [name, "_rollover"]:
            template_of(name)
            STREAMS[name].append(f".ds-{name}-{len(STREAMS[name]) + 1:06}")
            INDICES[STREAMS[name][-1]] = new_index()
            save()
            return 200, {"acknowledged": True, "rolled_over": True}
        case "GET", ["_index_template"]:
            return 200, {"index_templates": [{"name": name, "index_template": each} for name, each in sorted(TEMPLATES.items())]}
        case "PUT", ["_index_template", name]:
            TEMPLATES[name] = body
            save()
            return 200, {"acknowledged": True}
        case "DELETE", ["_data_stream", name]:
            if name not in STREAMS:
                refuse(404, "index_not_found_exception", f"no such index [{name}]")
            ensure_not_being_saved(STREAMS[name], "delete", "data streams")
            for each in STREAMS.pop(name):
                INDICES.pop(each, None)
            save()
            return 200, {"acknowledged": True}
        case "PUT", [name]:
            if name in INDICES:
                refuse(400, "resource_already_exists_exception", f"index [{name}] already exists")
            INDICES[name] = new_index((body or {}).get("aliases", {}), shards_of(body))
            save()
            return 200, {"acknowledged": True, "index": name}
        case "DELETE", [name]:
            if name not in INDICES:
                refuse(404, "index_not_found_exception", f"no such index [{name}]")
            ensure_not_being_saved([name], "delete")
            del INDICES[name]
            save()
            return 200, {"acknowledged": True}
        case "POST", [name, ("_close" | "_open") as change]:
            if change == "_close":
                ensure_not_being_saved([name], "close")
            index(name)["open"] = change == "_open"
            save()
            return 200, {"acknowledged": True}
        case "GET" | "POST", [name, "_search"]:
            found = [{"_id": key, "_source": value} for key, value in index(name)["documents"].items()]
            return 200, {"hits": {"total": {"value": len(found), "relation": "eq"}, "hits": found}}
        case "GET", [name, "_count"]:
            return 200, {"count": len(index(name)["documents"])}
        case "PUT" | "POST", [name, "_doc", *key]:
            content = INDICES[STREAMS[name][-1]] if name in STREAMS else INDICES.setdefault(name, new_index())
            content["documents"][key[0] if key else uuid.uuid4().hex] = body
            save()
            return 201, {"_index": name, "result": "created"}
        case "GET", [name, "_doc", key]:
            found = index(name)["documents"].get(key)
            return (200 if found else 404), {"_index": name, "_id": key, "found": bool(found), "_source": found}
    refuse(400, "illegal_argument_exception", f"no handler found for {method} /{'/'.join(parts)}")


def look_like_the_real_one():
    """What the engine lists of it: the name of the process, and what stands in its command line."""
    program = "/srv/java"
    if os.path.basename(sys.argv[0]) == "main.py" and len(sys.argv) == 1:
        opensearch = ["-cp", "/usr/share/opensearch/lib/*", "org.opensearch.bootstrap.OpenSearch"]
        elasticsearch = ["-m", "org.elasticsearch.server/org.elasticsearch.bootstrap.Elasticsearch"]
        os.execv(program, [program, sys.argv[0], *(opensearch if IS_OPENSEARCH else elasticsearch)])


def certificate():
    """Signed by nobody but itself, as the one that Elasticsearch makes at its first start."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    request = "openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=elasticsearch -keyout /tmp/key.pem -out /tmp/cert.pem"
    subprocess.run(request.split(), check=True, capture_output=True)
    context.load_cert_chain("/tmp/cert.pem", "/tmp/key.pem")
    return context


if __name__ == "__main__":
    look_like_the_real_one()
    load()
    password = os.environ.get("ELASTIC_PASSWORD")
    reason = "missing authentication credentials for REST request"
    serve(
        9200,
        answer,
        {"elastic": password} if password else None,
        denied={"error": {"type": "security_exception", "reason": reason}, "status": 401},
        tls=certificate() if os.environ.get("xpack.security.http.ssl.enabled") == "true" else None,
    )
