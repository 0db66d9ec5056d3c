#!/usr/bin/env bash
# Restores a snapshot without cofferdam: with zstd (or gzip), tar, jq and sha256sum, age where it is
# encrypted, and the database's own clients. It is what the docs tell people to type, in one piece.
#
# usage: tests/restore-by-hand.sh unpack REPOSITORY PROJECT SNAPSHOT OUT
#          SNAPSHOT is an id, or `latest`. Afterwards OUT has a directory for each tree
#          (SERVICE.DRIVER.NAME/), a dump for each database, and a script for the server's roles.
#        tests/restore-by-hand.sh load-postgres OUT SERVICE CONTAINER USER
#          Loads all databases of SERVICE from OUT into the server in CONTAINER.
#        IDENTITY_FILE in the environment names the file with the age identity.
set -euo pipefail

fail() {
  echo "restore-by-hand: $*" >&2
  exit 1
}

usage() {
  sed -n 's/^# \?//; 5,10p' "$0" >&2
  exit 2
}

# A stored object as it was before it was encrypted.
opened() {
  local object=$1 encryption=$2
  case $encryption in
    none) cat "$object" ;;
    age) age --decrypt --identity "${IDENTITY_FILE:?names the file with the age identity}" "$object" ;;
    *) fail "unknown encryption $encryption" ;;
  esac
}

# The content of a stored object, as it was before it was compressed.
plain() {
  local object=$1 compression=$2 encryption=$3
  case $compression in
    zstd:*) opened "$object" "$encryption" | zstd --decompress --quiet --stdout ;;
    gzip:*) opened "$object" "$encryption" | gzip --decompress --stdout ;;
    none) opened "$object" "$encryption" ;;
    *) fail "unknown compression $compression" ;;
  esac
}

unpack() {
  local repository=$1 project=$2 snapshot=$3 out=$4
  if [[ $snapshot == latest ]]; then
    # Ids begin with the time. What has no manifest is no snapshot, and the way back of a restore is not meant.
    snapshot=$(find "$repository/$project" -name manifest.json -exec \
      jq --raw-output 'select((.purpose // "backup") == "backup") | .snapshot' {} + | sort | tail -n 1)
  fi
  local manifest=$repository/$project/$snapshot/manifest.json
  [[ -f $manifest ]] || fail "no manifest at $manifest"
  [[ $(jq .format "$manifest") == 1 ]] || fail "$manifest is of another format than 1"

  jq --raw-output '.targets[].artifacts[] | "\(.stored.sha256)  \(.object)"' "$manifest" |
    (cd "$repository" && sha256sum --check --quiet) || fail "the snapshot is damaged"

  mkdir -p "$out"
  local object role compression encryption
  while IFS=$'\t' read -r object role compression encryption; do
    take "$repository/$object" "$role" "$compression" "$encryption" "$out"
  done < <(jq --raw-output '.targets[].artifacts[]
    | [.object, .role, .compression, (.encryption | if type == "object" then keys[0] else . end)] | @tsv' "$manifest")
}

take() {
  local object=$1 role=$2 compression=$3 encryption=$4 out=$5 name
  name=$(basename "$object" .age)
  case $role in
    dump | globals) plain "$object" "$compression" "$encryption" >"$out/${name%.@(zst|gz)}" ;;
    layer)
      # Layers of one tree stand oldest first, and are unpacked over each other.
      mkdir -p "$out/${name%%.tar*}"
      plain "$object" "$compression" "$encryption" |
        tar --extract --directory "$out/${name%%.tar*}" --preserve-permissions --same-owner --numeric-owner \
          --xattrs --xattrs-include='*' --acls
      ;;
    index) ;; # for `ls` only
    *) fail "$name: unknown role $role" ;;
  esac
}

load_postgres() {
  local out=$1 service=$2 container=$3 user=$4 roles dump
  for roles in "$out/$service".postgres.*.sql; do
    # Those that exist already are no failure: psql goes on.
    docker exec --interactive "$container" psql --quiet --username "$user" --dbname template1 <"$roles" >&2
  done
  for dump in "$out/$service".postgres.*.dump; do
    docker exec --interactive "$container" pg_restore --username "$user" --dbname template1 \
      --create --clean --if-exists --exit-on-error <"$dump"
  done
}

shopt -s extglob nullglob
command=${1-}
shift || usage
case $command in
  unpack) [[ $# -eq 4 ]] || usage; unpack "$@" ;;
  load-postgres) [[ $# -eq 4 ]] || usage; load_postgres "$@" ;;
  *) usage ;;
esac
