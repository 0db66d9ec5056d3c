#!/usr/bin/env bash
# Brings Apiary up by plain `docker run`: configured, its tables empty. What is there already is left alone. Nothing here
# is compose's, so labels say also which project and which service a container is. README.md goes through them.
set -euo pipefail

cd "$(dirname "$0")"
project=${APIARY_PROJECT:-apiary}
# When web and worker are stopped: restore, or backup,restore. Empty: never, and users are kept out by `artisan down`.
stop=${APIARY_STOP-restore}
app=cofferdam-test/apiary:1

# For everything that is made here; tests add one of their own.
marks=(--label "cofferdam.project=$project" ${APIARY_LABEL:+--label "$APIARY_LABEL"})

# once volume|network NAME
once() { docker "$1" inspect "$2" >/dev/null 2>&1 || docker "$1" create "${marks[@]}" "$2" >/dev/null; }

# start SERVICE [docker run's arguments...]
start() {
  local service=$1
  shift
  ! docker container inspect "$project-$service" >/dev/null 2>&1 || return 0
  docker run --detach --name "$project-$service" --network "$project" --network-alias "$service" \
    "${marks[@]}" --label "cofferdam.service=$service" "$@" >/dev/null
}

wait_until_healthy() {
  local tries=240
  until [[ $(docker inspect --format '{{.State.Health.Status}}' "$project-$1") == healthy ]]; do
    if ! ((tries--)); then
      echo "run: $1 is not healthy after two minutes: docker logs $project-$1" >&2
      exit 1
    fi
    sleep 0.5
  done
}

secrets=$(realpath "${APIARY_TMP:-./tmp}/secrets")
db_password=(--volume "$secrets/db-password:/run/secrets/db-password:ro")
settings=(
  --env DB_HOST=mysql --env DB_DATABASE=apiary_production --env DB_USERNAME=apiary
  --env DB_PASSWORD_FILE=/run/secrets/db-password "${db_password[@]}" --env MEILISEARCH_HOST=http://meilisearch:7700
)
health=(--health-interval 5s --health-timeout 5s --health-retries 30 --health-cmd)

once network "$project"
for volume in mysql meilisearch storage backups; do
  once volume "$project-$volume"
done

# Each database is dumped for itself. What is a log, a queue, or no longer used comes back empty.
# Healthy over TCP: the server that makes the databases at first listens on its socket only.
# shellcheck disable=SC2016 # the container's shell expands it
start mysql \
  --env MYSQL_DATABASE=apiary_production --env MYSQL_USER=apiary --env MYSQL_PASSWORD_FILE=/run/secrets/db-password \
  --env MYSQL_ROOT_PASSWORD_FILE=/run/secrets/root-password \
  "${db_password[@]}" --volume "$secrets/root-password:/run/secrets/root-password:ro" \
  --volume "$project-mysql:/var/lib/mysql" --volume "$PWD/mysql:/docker-entrypoint-initdb.d:ro" \
  "${health[@]}" '$(command -v mariadb-admin || command -v mysqladmin) ping --host=127.0.0.1 --silent' \
  --label cofferdam.mysql=apiary_production,apiary_sandbox \
  --label "cofferdam.mysql.exclude-table-data=action_events,attendance_exports,failed_jobs,jobs,notification_templates,\
nova_notifications,oauth_refresh_tokens,oauth_access_tokens,recruiting_campaign_recipients,recruiting_campaigns,\
recruiting_responses,recruiting_visits,remote_attendance_links,webhook_calls" \
  "${MYSQL_IMAGE:-cofferdam-test/mysql:9}"
wait_until_healthy mysql

# The hook of web fills it anew: `true` says that nothing is left to do here.
start meilisearch \
  --volume "$project-meilisearch:/meili_data" \
  "${health[@]}" 'curl --fail --silent http://127.0.0.1:7700/health' \
  --label "cofferdam.skip=the search index; scout:import-all builds it from the database" \
  --label cofferdam.hook.after-restore=true \
  "$app" php -S 0.0.0.0:7700 meilisearch.php

for database in apiary_production apiary_sandbox; do
  docker run --rm --network "$project" "${settings[@]}" --env "DB_DATABASE=$database" "$app" php artisan migrate >/dev/null
done

if [[ -n $stop ]]; then
  hold=(--label "cofferdam.stop=$stop")
  hooks=(--label "cofferdam.hook.after-restore=php artisan scout:import-all")
else
  hold=()
  hooks=(
    --label "cofferdam.hook.before-restore=php artisan down"
    --label "cofferdam.hook.after-restore=sh -c 'php artisan scout:import-all && php artisan up'"
  )
fi

# Exports of Nova, and a directory that nothing uses any more, are left out.
start web "${settings[@]}" \
  --volume "$project-storage:/storage/app" --publish "127.0.0.1:${WEB_PORT:-0}:8000" \
  "${health[@]}" 'curl --fail --silent http://127.0.0.1:8000/ping' \
  --label "cofferdam.volumes=$project-storage" \
  --label "cofferdam.volumes.$project-storage.exclude=/nova-exports/,/dompdf/" \
  "${hold[@]}" "${hooks[@]}" \
  "$app"
wait_until_healthy meilisearch
wait_until_healthy web

# Made after web, so it starts after web.
start worker "${settings[@]}" --volume "$project-storage:/storage/app" "${hold[@]}" "$app" php artisan horizon
