#!/usr/bin/env bash
# Saves the Tethys example, loses its containers and volumes, restores it with one command, and checks that the portal
# serves the old data again. Everything that it makes is removed at the end.
set -euo pipefail

cd "$(dirname "$0")"
# shellcheck source=compose-examples/lib.sh
. ../lib.sh tethys

export TETHYS_TMP=./tmp/demo
services=(db web thredds)

web() { $compose exec -T web curl --silent "http://localhost:8000$1"; }
thredds() { $compose exec -T thredds curl --silent "http://localhost:8080$1"; }

# Everything that must come back, as the services serve it, and all configuration files.
state() {
  web /
  web /users
  web /apps/streamflow/app_workspace/flow.csv
  web /static/streamflow/legend.svg
  thredds /basin.nc
  $compose exec -T web sh -c 'cd ~/.tethys && sha256sum *'
}

begin

heading "A Tethys Portal with data in it"
note "A database, two volumes, configuration files, and files of an app in a container's own layer."
note "What is to be saved, and who must be held back meanwhile, stands in labels in docker-compose.yml."
./init.sh
run_quietly "$compose up --detach"
wait_until_healthy "${services[@]}"
run_quietly "$compose exec -T web tethys manage collectall"
run "sed '/^volumes:/,\$d' docker-compose.yml | grep -E '^  [a-z-]+:\$|^ +cofferdam\.'"

heading "The portal is named, and used"
run "$compose exec web sed -i 's/PORTAL_NAME: .*/PORTAL_NAME: River Portal/' /var/lib/tethys/.tethys/portal_config.yml"
run_quietly "$compose restart --timeout 5 web"
wait_until_healthy "${services[@]}"
run "$compose exec web curl -s localhost:8000/users -d '{\"username\": \"hydro\", \"email\": \"hydro@tethys.test\"}'"
run "$compose exec web curl -s localhost:8000/apps/streamflow/app_workspace/flow.csv -d day,flow"
run "$compose exec web curl -s localhost:8000/static/streamflow/legend.svg -d '<svg/>'"
run "$compose exec thredds sh -c 'echo netcdf >/usr/local/tomcat/content/thredds/basin.nc'"
state >tmp/demo/before

heading "What would be saved"
run "$compose exec cofferdam cofferdam plan"

heading "Back it up"
run "$compose exec cofferdam cofferdam backup"

heading "Lose all containers and volumes, and begin anew"
run_quietly "$compose rm --stop --force -v db web thredds"
run "docker volume rm ${project}_db-data ${project}_workspaces ${project}_static"
run_quietly "$compose up --detach"
wait_until_healthy "${services[@]}"
run "$compose exec web curl -s localhost:8000/"
run "$compose exec web curl -s localhost:8000/users"
run "$compose exec web curl -s localhost:8000/apps/streamflow/app_workspace/flow.csv"
[[ $(state 2>/dev/null || true) != "$(<tmp/demo/before)" ]] || fail "the data is still there: nothing was lost"

heading "Restore: one command"
run "$compose exec cofferdam cofferdam restore latest --yes"

heading "The portal serves the old data again"
wait_until_healthy "${services[@]}"
state >tmp/demo/after
diff tmp/demo/before tmp/demo/after || fail "the restored data is not the saved data"
run "$compose exec web curl -s localhost:8000/"
run "$compose exec web curl -s localhost:8000/users"
run "$compose exec web readlink /usr/lib/tethys/apps/streamflow/workspaces"

note
note "The portal's name, its users, workspaces, static files and configuration are those from before: restored."
