#!/usr/bin/env bash
# Saves the CanDIG example, destroys its data, restores it with one command, and checks that the
# services serve the old data again. Everything that it makes is removed at the end.
set -euo pipefail

cd "$(dirname "$0")"

export COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-candigv2}
export COFFERDAM_IMAGE=${COFFERDAM_IMAGE:-cofferdam}
export CANDIG_TMP=./tmp/demo
# Service containers are named otherwise by each flavour; the commands are the same.
if docker compose version >/dev/null 2>&1; then
  compose='docker compose'
else
  compose='docker-compose'
fi
project=$COMPOSE_PROJECT_NAME

# Without a terminal there are no colours, and compose must not ask for one.
bold='' blue='' plain='' no_tty='-T'
if [[ -t 0 && -t 1 ]]; then
  bold=$'\e[1m' blue=$'\e[36m' plain=$'\e[0m' no_tty=''
fi

heading() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
note() { printf '%s\n' "$*"; }
fail() {
  printf '\ndemo: %s\n' "$*" >&2
  exit 1
}

# Shows a command as a user would type it, and runs it.
run() {
  printf '\n%s$ %s%s\n' "$blue" "$1" "$plain"
  local command=${1//"$compose run "/"$compose run $no_tty "}
  eval "${command//"$compose exec "/"$compose exec -T "}"
}

# The same for commands that have much to say: it is heard only when they fail.
run_quietly() {
  local said
  printf '\n%s$ %s%s\n' "$blue" "$1" "$plain"
  said=$(eval "$1" 2>&1) || fail "that failed:"$'\n'"$said"
}

ensure_that_nothing_is_in_the_way() {
  local left
  left=$(
    docker ps --all --quiet --filter "label=com.docker.compose.project=$project"
    docker volume ls --quiet --filter "label=com.docker.compose.project=$project"
  )
  [[ -z $left ]] || fail "there is a project $project on this engine already, and the demo would destroy its data;
      remove it, or set COMPOSE_PROJECT_NAME to another name"
}

tidy_up() {
  local status=$?
  trap '' INT TERM
  heading "Tidying up"
  docker rm --force "cofferdam-hold-$project" >/dev/null 2>&1 || true
  $compose --profile backup down --volumes --timeout 5 >/dev/null 2>&1 || note "could not remove all of project $project"
  rm -rf tmp/demo
  exit "$status"
}

wait_until_healthy() {
  local service container
  for service in postgres-db katsu htsget vault; do
    container=$($compose ps -q "$service")
    for _ in {1..120}; do
      [[ $(docker inspect --format '{{.State.Health.Status}}' "$container") != healthy ]] || continue 2
      sleep 0.5
    done
    fail "$service is not healthy after a minute: $compose logs $service"
  done
}

katsu() { $compose exec -T katsu curl --silent "http://localhost:8000$1"; }
htsget() { $compose exec -T htsget curl --silent "http://localhost:8000$1"; }

# Everything that must come back: all rows, as the services serve them, and what Vault keeps.
state() {
  echo "katsu $(katsu /summary | jq --compact-output .)"
  echo "htsget $(htsget /summary | jq --compact-output .)"
  $compose exec -T vault sh -c 'cd /vault/data && find kv sys/policy -type f -exec sha256sum {} + | sort -k 2'
}

ensure_that_nothing_is_in_the_way
trap tidy_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

heading "A CanDIG stack with data in it"
note "Two databases, Vault's volume, and a directory of logs. What is to be saved, and who must be"
note "held back meanwhile, stands in labels in docker-compose.yml."
./init.sh
run_quietly "$compose up --detach"
wait_until_healthy
run "sed '/^volumes:/,\$d' docker-compose.yml | grep -E '^  [a-z-]+:\$|cofferdam\.'"

heading "An ingest: new rows, a new authorization"
run "$compose exec katsu curl -s localhost:8000/donors -d '{\"submitter_donor_id\": \"DONOR-DEMO\", \"program_id\": \"MOH-SYNTH-01\"}' | jq -c ."
run "$compose exec htsget curl -s localhost:8000/variants -d '{\"sample_id\": \"SAMPLE-0001\", \"chromosome\": \"chr17\", \"position\": 43044295, \"reference\": \"G\", \"alternate\": \"A\"}' | jq -c ."
run "$compose exec vault vault kv put opa/programs/DEMO team_members=you@candig.test"
run "$compose exec katsu curl -s localhost:8000/summary | jq -c ."
run "$compose exec vault vault kv list opa/programs"
run "ls $CANDIG_TMP/logging"
state >tmp/demo/before

heading "What would be saved"
run "$compose run --rm cofferdam plan"

heading "Back it up"
run "$compose run --rm cofferdam backup"
run "$compose run --rm cofferdam list"

heading "Destroy it"
run "$compose exec postgres-db psql -q -U admin -d clinical -c 'DROP TABLE donors, primary_diagnoses, treatments CASCADE'"
run "$compose exec postgres-db psql -q -U admin -d genomic -c 'DELETE FROM variants'"
run "$compose exec vault rm -rf /vault/data"
run_quietly "$compose restart vault"
run "rm $CANDIG_TMP/logging/*"
wait_until_healthy

heading "The services are broken"
run "$compose exec katsu curl -s localhost:8000/donors/DONOR-DEMO"
run "$compose exec htsget curl -s localhost:8000/variants"
run "$compose exec vault vault kv get opa/programs/DEMO" || true
run "ls $CANDIG_TMP/logging"
[[ $(state 2>/dev/null || true) != "$(<tmp/demo/before)" ]] || fail "the data is still there: nothing was destroyed"

heading "Restore: one command, from any directory"
run "docker run --rm -v /var/run/docker.sock:/var/run/docker.sock -v ${project}_backups:/backups $COFFERDAM_IMAGE restore latest --project $project --yes"

heading "The services serve the old data again"
wait_until_healthy
state >tmp/demo/after
diff tmp/demo/before tmp/demo/after || fail "the restored data is not the saved data"
grep -q 'POST /donors 201' tmp/demo/logging/katsu.log || fail "katsu's log did not come back"
run "$compose exec katsu curl -s localhost:8000/donors/DONOR-DEMO | jq -c ."
run "$compose exec htsget curl -s 'localhost:8000/variants?limit=1' | jq -c ."
run "$compose exec vault vault kv get opa/programs/DEMO"
run "ls $CANDIG_TMP/logging"

note
note "Row counts and checksums of every table, and Vault's files, are those from before: restored."
