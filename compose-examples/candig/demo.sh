#!/usr/bin/env bash
# Saves the CanDIG example, destroys its data, restores it with one command, and checks that the
# services serve the old data again. Everything that it makes is removed at the end.
set -euo pipefail

cd "$(dirname "$0")"
# shellcheck source=compose-examples/lib.sh
. ../lib.sh candigv2

export CANDIG_TMP=./tmp/demo
services=(postgres-db redis katsu htsget vault)

katsu() { $compose exec -T katsu curl --silent "http://localhost:8000$1"; }
htsget() { $compose exec -T htsget curl --silent "http://localhost:8000$1"; }

# Everything that must come back: all rows, as the services serve them, and what Vault keeps.
state() {
  echo "katsu $(katsu /summary | jq --compact-output .)"
  echo "htsget $(htsget /summary | jq --compact-output .)"
  $compose exec -T vault sh -c 'cd /vault/data && find kv sys/policy -type f -exec sha256sum {} + | sort -k 2'
}

wait_for_a_snapshot() {
  for _ in {1..240}; do
    ! $compose exec -T cofferdam cofferdam list --json | jq --exit-status 'length > 0' >/dev/null || return 0
    sleep 0.5
  done
  fail "there is no snapshot after two minutes: $compose logs cofferdam"
}

begin

heading "A CanDIG stack with data in it"
note "Two databases, Vault's volume, and a directory of logs. What is to be saved, and who must be"
note "held back meanwhile, stands in labels in docker-compose.yml."
./init.sh
run_quietly "$compose up --detach"
wait_until_healthy "${services[@]}"
run "sed '/^volumes:/,\$d' docker-compose.yml | grep -E '^  [a-z-]+:\$|cofferdam\.'"

heading "What would be saved"
run "$compose exec cofferdam cofferdam plan"

heading "A new variant, a new authorization, and an ingest of new rows"
run "$compose exec htsget curl -s localhost:8000/variants -d '{\"sample_id\": \"SAMPLE-0001\", \"chromosome\": \"chr17\", \"position\": 43044295, \"reference\": \"G\", \"alternate\": \"A\"}' | jq -c ."
run "$compose exec vault vault kv put opa/programs/DEMO team_members=you@candig.test"
run "$compose exec vault vault kv list opa/programs"
run "$compose run --rm candig-ingest DONOR-DEMO | jq -c ."

heading "The ingest has ended, so all is backed up: nobody had to ask for it"
wait_for_a_snapshot
run "$compose logs --tail 20 cofferdam"
run "$compose exec cofferdam cofferdam list"
run "$compose exec cofferdam cofferdam show latest"
wait_until_healthy "${services[@]}"
run "$compose exec katsu curl -s localhost:8000/summary | jq -c ."
run "ls $CANDIG_TMP/logging"
state >tmp/demo/before

heading "Its page and its metrics, for who has the token"
page=http://$($compose port cofferdam 8080)
run "curl -s -u :\$(cat $CANDIG_TMP/secrets/cofferdam-token) $page/ | grep -o '<h1.*</h1>'"
run "curl -s -H \"Authorization: Bearer \$(cat $CANDIG_TMP/secrets/cofferdam-token)\" $page/metrics | grep '^cofferdam_backup_last_stored_bytes'"

heading "Destroy it"
run "$compose exec postgres-db psql -q -U admin -d clinical -c 'TRUNCATE donors, primary_diagnoses, treatments'"
run "$compose exec postgres-db psql -q -U admin -d genomic -c 'DELETE FROM variants'"
run "$compose exec vault rm -rf /vault/data"
run_quietly "$compose restart vault"
run "rm $CANDIG_TMP/logging/*"
wait_until_healthy "${services[@]}"

heading "The services are broken, and katsu caches for a day what the portal shows"
run "$compose exec katsu curl -s localhost:8000/v3/discovery/overview/individual_count/ | jq -c ."
run "$compose exec katsu curl -s localhost:8000/donors/DONOR-DEMO"
run "$compose exec htsget curl -s localhost:8000/variants"
run "$compose exec vault vault kv get opa/programs/DEMO" || true
run "ls $CANDIG_TMP/logging"
[[ $(state 2>/dev/null || true) != "$(<tmp/demo/before)" ]] || fail "the data is still there: nothing was destroyed"

heading "Restore: one command, from any directory"
run "docker run --rm -v /var/run/docker.sock:/var/run/docker.sock -v ${project}_backups:/backups $COFFERDAM_IMAGE restore latest --project $project --yes"

heading "The services serve the old data again"
wait_until_healthy "${services[@]}"
state >tmp/demo/after
run "$compose exec katsu curl -s localhost:8000/v3/discovery/overview/individual_count/ | jq -c ."
[[ $(katsu /v3/discovery/overview/individual_count/ | jq .individual_count) == $(katsu /summary | jq .donors.rows) ]] ||
  fail "the portal still shows what was destroyed"
diff tmp/demo/before tmp/demo/after || fail "the restored data is not the saved data"
grep -q 'POST /donors 201' tmp/demo/logging/katsu.log || fail "katsu's log did not come back"
run "$compose exec katsu curl -s localhost:8000/donors/DONOR-DEMO | jq -c ."
run "$compose exec htsget curl -s 'localhost:8000/variants?limit=1' | jq -c ."
run "$compose exec vault vault kv get opa/programs/DEMO"
run "ls $CANDIG_TMP/logging"

note
note "Row counts and checksums of every table, and Vault's files, are those from before: restored."
