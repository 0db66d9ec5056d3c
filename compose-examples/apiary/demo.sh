#!/usr/bin/env bash
# Saves the Apiary example, loses its containers and volumes, restores it into a new, empty instance with one command, and
# checks that the application serves the old data again. Everything that it makes is removed at the end.
set -euo pipefail

cd "$(dirname "$0")"
# shellcheck source=compose-examples/lib.sh
. ../lib.sh apiary

export APIARY_TMP=./tmp/demo APIARY_PROJECT=$project
sidecar="docker run --rm -v /var/run/docker.sock:/var/run/docker.sock -v $project-backups:/backups $COFFERDAM_IMAGE"
sandbox="docker exec --env DB_DATABASE=apiary_sandbox $project-web php artisan"

of_project() { docker "$@" --quiet --filter "label=cofferdam.project=$project"; }
present() {
  of_project ps --all
  of_project volume ls
}
take_down() {
  of_project ps --all | xargs --no-run-if-empty docker rm --force --volumes
  of_project volume ls | xargs --no-run-if-empty docker volume rm
  of_project network ls | xargs --no-run-if-empty docker network rm
}

web() { docker exec "$project-web" curl --silent "http://localhost:8000$1"; }

# Everything that must come back: all rows that were saved, a resume, what is searched for.
state() {
  web /api/v1/summary | jq --compact-output '{users, teams, attendance}'
  $sandbox db:show | jq --compact-output '{users, teams, attendance}'
  web /api/v1/users/mjemison/resume
  web '/api/v1/users/search?keyword=jemison'
}

begin

heading "An Apiary with data in it"
note "MySQL, the application, its worker and its search index, by plain docker run as under Nomad. What is to"
note "be saved, and who must be held back meanwhile, stands in labels in run.sh."
./init.sh
run_quietly "./run.sh"
run_quietly "docker exec $project-web php artisan db:seed"
run_quietly "$sandbox db:seed"
run_quietly "docker exec $project-web php artisan scout:import-all"
run "sed -n '/^start mysql/,\$p' run.sh | grep -E '^start |cofferdam\.|^[a-z_]+,'"

heading "A new user, her resume, an export"
run "docker exec $project-web curl -s localhost:8000/api/v1/users -d '{\"uid\": \"mjemison\", \"first_name\": \"Mae\", \"last_name\": \"Jemison\"}'"
run "docker exec $project-web curl -s localhost:8000/api/v1/users/mjemison/resume -d '%PDF-1.7 Mae Jemison'"
run "docker exec $project-web sh -c 'seq 100000 >/storage/app/nova-exports/users.csv'"
run "docker exec $project-web curl -s 'localhost:8000/api/v1/users/search?keyword=jemison'"
state >tmp/demo/before

heading "What would be saved"
run "$sidecar plan --project $project"

heading "Back it up: the application runs on"
run "$sidecar backup --project $project"
run "$sidecar ls latest web/volume/$project-storage --project $project"

heading "Lose all containers and volumes, and bring up an empty instance"
run_quietly "docker rm --force --volumes $project-worker $project-web $project-meilisearch $project-mysql"
run "docker volume rm $project-mysql $project-meilisearch $project-storage"
run_quietly "./run.sh"
run "docker exec $project-web curl -s localhost:8000/api/v1/summary | jq -c .users"
run "docker exec $project-web curl -s 'localhost:8000/api/v1/users/search?keyword=jemison'"
run "docker exec $project-web curl -s localhost:8000/api/v1/users/mjemison/resume"
[[ $(state 2>/dev/null || true) != "$(<tmp/demo/before)" ]] || fail "the data is still there: nothing was lost"

heading "Restore: one command; the search index is built before the worker starts"
run "$sidecar restore latest --project $project --yes"

heading "The application serves the old data again"
state >tmp/demo/after
diff tmp/demo/before tmp/demo/after || fail "the restored data is not the saved data"
run "docker exec $project-web curl -s localhost:8000/api/v1/summary | jq -c '.users, .failed_jobs'"
run "docker exec $project-web curl -s 'localhost:8000/api/v1/users/search?keyword=jemison'"
run "docker exec $project-web curl -s localhost:8000/api/v1/users/mjemison/resume"
run "docker logs $project-worker 2>&1 | tail -n 1"

note
note "Rows of both databases, the resume and the search index are those from before: restored."
