#!/usr/bin/env bash
# Saves the CommCare example, loses all of its stores, restores them with one command, and checks that every form is back.
# Everything that it makes is removed at the end.
set -euo pipefail

cd "$(dirname "$0")"
# shellcheck source=compose-examples/lib.sh
. ../lib.sh commcare

export COMMCARE_TMP=./tmp/demo
services=(postgres couch elasticsearch redis web)
stores=(postgres-data couchdb-data elasticsearch-data elasticsearch-snapshots blobdb)

web() { $compose exec -T web curl --silent "http://localhost:9010$1"; }

# A form is put together from PostgreSQL, CouchDB and the blob store; the search is Elasticsearch's.
state() {
  web /a/clinic/forms
  web /search
}

begin

heading "CommCare HQ with data in it"
note "PostgreSQL, CouchDB, Elasticsearch and a blob store; CouchDB and Elasticsearch are stand-ins."
note "What is to be saved, and who must be held back meanwhile, stands in labels in docker-compose.yml."
./init.sh
run_quietly "$compose up --detach"
wait_until_healthy "${services[@]}"
run "sed '/^volumes:/,\$d' docker-compose.yml | grep -E '^  [a-z-]+:\$|^ +cofferdam\.'"

heading "Forms come in"
run "$compose exec web curl -s localhost:9010/a/clinic/receiver -d '<registration><name>Ada</name></registration>'"
run "$compose exec web curl -s localhost:9010/a/clinic/receiver -d '<visit><weight>61</weight></visit>'"
for _ in {1..60}; do
  [[ $(web /search) == '[]' || $(web /search) != *,* ]] || break
  sleep 0.5
done
run "$compose exec web curl -s localhost:9010/a/clinic/forms"
state >tmp/demo/before

heading "What would be saved"
run "$compose exec cofferdam cofferdam plan"

heading "Back it up"
run "$compose exec cofferdam cofferdam backup"

heading "Lose every store, and begin anew: CouchDB on another node"
run_quietly "$compose rm --stop --force -v ${services[*]} pillowtop"
run "docker volume rm ${stores[*]/#/${project}_}"
export COUCHDB_NODE=10.0.0.9
run_quietly "$compose up --detach"
wait_until_healthy "${services[@]}"
run "$compose exec web curl -s localhost:9010/a/clinic/forms"
[[ $(state 2>/dev/null || true) != "$(<tmp/demo/before)" ]] || fail "the data is still there: nothing was lost"

heading "Restore: one command"
run "$compose exec cofferdam cofferdam restore latest --yes"

heading "Every form is there again"
wait_until_healthy "${services[@]}"
state >tmp/demo/after
diff tmp/demo/before tmp/demo/after || fail "the restored data is not the saved data"
run "$compose exec web python3 manage.py check_services"
run "$compose exec web curl -s localhost:9010/a/clinic/forms"

note
note "Rows, documents, blobs and the search index are those from before: restored."
