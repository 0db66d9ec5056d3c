#!/usr/bin/env bash
# Saves the IGNY8 example from a stack of its own, loses its data and its database, restores it with one command, and
# checks that the services serve the old data again. Everything that it makes is removed at the end.
set -euo pipefail

cd "$(dirname "$0")"
# shellcheck source=compose-examples/lib.sh
. ../lib.sh igny8

export IGNY8_TMP=./tmp/demo IGNY8_PROJECT=$project
sidecar="$compose -p $project-backup -f docker-compose.cofferdam.yml"
services=(postgres redis backend)

tidy_up_more() {
  $sidecar down --volumes --timeout 5 >/dev/null 2>&1 || note "could not remove all of project $project-backup"
}

backend() { $compose exec -T backend curl --silent "http://localhost:8010$1"; }

wait_until_published() {
  for _ in {1..120}; do
    [[ $(backend "/api/v1/sites/$1/") != *published* ]] || return 0
    sleep 0.5
  done
  fail "the worker has not published $1 after a minute: $compose logs worker"
}

# Everything that must come back: all rows, as the backend reads them, a published page, an upload.
state() {
  backend /api/v1/summary/
  $compose exec -T sites curl --silent http://localhost:8024/garden/index.html
  backend /api/v1/uploads/1/logo.svg
}

begin

heading "An IGNY8 stack with data in it"
note "Django and Celery with Postgres and Redis. What is to be saved, and who must be held back"
note "meanwhile, stands in labels in docker-compose.yml; nothing else there knows of backups."
./init.sh
run_quietly "$compose run --rm backend python manage.py migrate"
run_quietly "$compose up --detach"
run_quietly "$sidecar up --detach"
wait_until_healthy "${services[@]}"
run_quietly "$compose exec -T backend python manage.py collectstatic --noinput"
run "sed '/^volumes:/,\$d' docker-compose.yml | grep -E '^  [a-z-]+:\$|^ +cofferdam\.'"

heading "A site is published, a logo uploaded"
run "$compose exec backend curl -s localhost:8010/api/v1/sites/ -d '{\"account\": \"account-001\", \"slug\": \"garden\", \"title\": \"Garden\", \"body\": \"Roses.\"}'"
run "$compose exec backend curl -s localhost:8010/api/v1/uploads/1/logo.svg -d '<svg/>'"
wait_until_published garden
run "$compose exec sites curl -s localhost:8024/garden/index.html"
run "$compose exec backend curl -s localhost:8010/api/v1/summary/"
state >tmp/demo/before

heading "What would be saved"
run "$sidecar exec cofferdam cofferdam plan"

heading "Back it up, and look at it"
run "$sidecar exec cofferdam cofferdam backup"
run "$sidecar exec cofferdam cofferdam verify latest --read"

heading "Lose it: the database, the sites, the uploads, the static files"
run "$compose exec postgres psql -q -U igny8 -d template1 -c 'DROP DATABASE igny8_db WITH (FORCE)'"
run "$compose exec backend sh -c 'rm -r /data/app/sites-data/* /data/app/igny8/sites/* /app/staticfiles/*'"

heading "The services are broken"
run "$compose exec backend curl -s localhost:8010/api/v1/summary/"
run "$compose exec sites curl -s --fail localhost:8024/garden/index.html" || true
[[ $(state 2>/dev/null || true) != "$(<tmp/demo/before)" ]] || fail "the data is still there: nothing was lost"

heading "Restore: one command; the schema is migrated before worker and beat start"
run "$sidecar exec cofferdam cofferdam restore latest --yes"

heading "The services serve the old data again"
wait_until_healthy "${services[@]}"
state >tmp/demo/after
diff tmp/demo/before tmp/demo/after || fail "the restored data is not the saved data"
run "$compose exec sites curl -s localhost:8024/garden/index.html"
run "$compose exec backend curl -s --fail localhost:8010/static/content/app.css"

note
note "Row counts and checksums of every table, the page and the upload are those from before: restored."
