#!/usr/bin/env bash
# Builds the images that tests and examples run: real servers from Debian's packages.
# An image is built again only when what goes into it has changed.
#
# usage: scripts/test-images.sh [NAME[:TAG]...]
#   postgres:15 (default), :13, :17, :18    toolbox    busybox
#   openldap, redis, postfix, ntfy, prometheus
#   engine                                      a Docker Engine, for swarms and remote ones
#   garage (S3), webdav, sftp                   servers that hold repositories
#   couchdb-stand-in, elasticsearch-stand-in      small servers of our own
#   mariadb:10.11 and mysql:9 (default), mariadb:10.5, mariadb:11
#   candig-katsu, candig-htsget, candig-vault    the services of compose-examples/candig
#   apiary, igny8-backend, tethys-portal, commcare-hq   those of the other examples
#
# Names are cofferdam-test/NAME:TAG.
set -euo pipefail

cd "$(dirname "$0")/.."

defaults=(
  postgres:15 mariadb:10.11 mysql:9 toolbox:1 busybox:1 openldap:1 redis:7 postfix:3 ntfy:2
  webdav:1 sftp:1 prometheus:2
  couchdb-stand-in:3 elasticsearch-stand-in:8
  candig-katsu:1 candig-htsget:1 candig-vault:1
  apiary:1 igny8-backend:1 tethys-portal:1 commcare-hq:1
  garage:2 engine:26
)

# Containers inherit these labels; cofferdam takes what is below cofferdam.test for harmless.
mark=cofferdam.test.image
inputs_label=cofferdam.test.inputs

fail() {
  echo "test-images: $*" >&2
  exit 1
}

# What goes into the image: the files of its build context, and the arguments.
inputs_of() {
  local context=$1
  shift
  {
    printf '%s\n' "$@"
    find "$context" -type f -not -path '*/__pycache__/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
  } | sha256sum | cut -d ' ' -f 1
}

# Whether the image was made from these inputs.
is_current() {
  local image=$1 inputs=$2 present
  present=$(docker image inspect --format "{{index .Config.Labels \"$inputs_label\"}}" "$image" 2>/dev/null) || return 1
  [[ $present == "$inputs" ]]
}

# build NAME:TAG SUITE CONTEXT [docker build's arguments...]
build() {
  local image=cofferdam-test/$1 suite=$2 context=$3
  shift 3
  local arguments=(--build-arg "SUITE=$suite" "$@")

  local inputs
  inputs=$(inputs_of "$context" "${arguments[@]}")
  is_current "$image" "$inputs" || build_from "$inputs" "$image" "$suite" "$context" "${arguments[@]}"
}

# build_from INPUTS IMAGE SUITE CONTEXT [docker build's arguments...]
build_from() {
  local inputs=$1 image=$2 suite=$3 context=$4
  shift 4

  scripts/base-image.sh "$suite" >/dev/null
  echo "test-images: building $image" >&2
  local log
  log=$(docker build -q -t "$image" --label "$mark=1" --label "$inputs_label=$inputs" \
    "$@" "$context" 2>&1) || fail "$image did not build:"$'\n'"$log"
}

postgres() {
  local major=$1 suite=$2 volume=/var/lib/postgresql/data data=/var/lib/postgresql/data
  local clients=/usr/lib/postgresql/$major/bin
  # One of them as it is in the official image.
  ((major != 17)) || clients=/usr/bin
  if ((major >= 18)); then
    volume=/var/lib/postgresql
    data=/var/lib/postgresql/$major/docker
  fi
  build "postgres:$major" "$suite" docker/test-images/postgres \
    --build-arg "PG_MAJOR=$major" --build-arg "PG_VOLUME=$volume" --build-arg "PG_DATA=$data" \
    --build-arg "PG_CLIENTS=$clients"
}

mariadb() {
  build "mariadb:$1" "$2" docker/test-images/mysql --build-arg PACKAGE=mariadb-server --build-arg SERVER=mariadbd
}

mysql() {
  build "mysql:$1" "$2" docker/test-images/mysql --build-arg PACKAGE=mysql-server --build-arg SERVER=mysqld
}

stand_in() {
  local server=$1 version=$2 home=$3 user=$4
  build "$server-stand-in:$version" bookworm docker/test-images/stand-ins \
    --build-arg "SERVER=$server" --build-arg "HOME=$home" --build-arg "USER_ID=$user"
}

garage_image=cofferdam-test/garage:2
garage_files=docker/test-images/garage

garage_inputs() { inputs_of "$garage_files" "$(<scripts/garage.sh)"; }

# The program comes from the host: crates cannot be had while an image is built. It takes the processor for minutes, while
# the other images mostly wait for packages; and it is needed only where the image is not there yet.
begin_garage() {
  is_current "$garage_image" "$(garage_inputs)" && return
  scripts/garage.sh >/dev/null &
  garage_build=$!
}

garage() {
  [[ -n ${garage_build-} ]] || return 0
  local program context
  wait "$garage_build" || fail "there is no Garage to put into an image"
  program=$(scripts/garage.sh)
  context=$(dirname "$program")/garage-image
  mkdir -p "$context"
  cp "$garage_files"/* "$context"
  cp "$program" "$context/garage"
  build_from "$(garage_inputs)" "$garage_image" bookworm "$context" --build-arg SUITE=bookworm
}

candig() {
  local service=$1 services=compose-examples/candig/services
  build "candig-$service:1" bookworm "$services" --file "$services/$service/Dockerfile"
}

one() {
  case $1 in
    postgres | postgres:15) postgres 15 bookworm ;;
    postgres:13) postgres 13 bullseye ;;
    postgres:17) postgres 17 trixie ;;
    postgres:18) postgres 18 sid ;;
    mariadb | mariadb:10.11) mariadb 10.11 bookworm ;;
    mariadb:10.5) mariadb 10.5 bullseye ;;
    mariadb:11) mariadb 11 trixie ;;
    mysql | mysql:9) mysql 9 sid ;;
    toolbox | toolbox:1) build toolbox:1 bookworm docker/test-images/toolbox ;;
    busybox | busybox:1) build busybox:1 bookworm docker/test-images/busybox ;;
    openldap | openldap:1) build openldap:1 bookworm docker/test-images/openldap ;;
    engine | engine:26) build engine:26 trixie docker/test-images/engine ;;
    redis | redis:7) build redis:7 bookworm docker/test-images/redis ;;
    garage | garage:2) garage ;;
    postfix | postfix:3) build postfix:3 bookworm docker/test-images/postfix ;;
    ntfy | ntfy:2) build ntfy:2 trixie docker/test-images/ntfy ;;
    prometheus | prometheus:2) build prometheus:2 bookworm docker/test-images/prometheus ;;
    webdav | webdav:1) build webdav:1 bookworm docker/test-images/webdav ;;
    sftp | sftp:1) build sftp:1 bookworm docker/test-images/sftp ;;
    couchdb-stand-in | couchdb-stand-in:3) stand_in couchdb 3 /opt/couchdb 5984 ;;
    elasticsearch-stand-in | elasticsearch-stand-in:8)
      stand_in elasticsearch 8 /usr/share/elasticsearch 1000
      ;;
    candig-katsu | candig-katsu:1) candig katsu ;;
    candig-htsget | candig-htsget:1) candig htsget ;;
    candig-vault | candig-vault:1) candig vault ;;
    apiary | apiary:1) build apiary:1 bookworm compose-examples/apiary/app ;;
    igny8-backend | igny8-backend:1) build igny8-backend:1 bookworm compose-examples/igny8/backend ;;
    tethys-portal | tethys-portal:1) build tethys-portal:1 bookworm compose-examples/tethys/portal ;;
    commcare-hq | commcare-hq:1) build commcare-hq:1 bookworm compose-examples/commcare/hq ;;
    *) fail "no such test image: $1 (there are: ${defaults[*]} postgres:13 postgres:17 postgres:18 mariadb:10.5 mariadb:11)" ;;
  esac
}

[[ $# -gt 0 ]] || set -- "${defaults[@]}"

for name; do
  case $name in
    garage | garage:2) begin_garage ;;
  esac
done
for name; do
  one "$name"
done
