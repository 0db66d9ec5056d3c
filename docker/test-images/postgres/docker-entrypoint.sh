#!/usr/bin/env bash
# Starts PostgreSQL as the official image does: the first start makes the cluster, the user and
# the database that the environment names, and runs /docker-entrypoint-initdb.d; any other command
# is run as it is.
set -Eeuo pipefail

fail() {
  echo "entrypoint: $*" >&2
  exit 1
}

# $NAME, or the content of the file that $NAME_FILE names, or a default.
setting() {
  local name=$1 default=${2-} file=$1_FILE
  [[ -z ${!name-} || -z ${!file-} ]] || fail "both $name and $file are set"
  if [[ -n ${!file-} ]]; then
    printf -v "$name" '%s' "$(<"${!file}")"
    unset "$file"
  else
    printf -v "$name" '%s' "${!name:-$default}"
  fi
  export "${name?}"
}

read_settings() {
  setting POSTGRES_PASSWORD
  setting POSTGRES_USER postgres
  setting POSTGRES_DB "$POSTGRES_USER"
  setting POSTGRES_INITDB_ARGS
  : "${POSTGRES_HOST_AUTH_METHOD:=}"
}

step_down_to_postgres() {
  mkdir -p "$PGDATA"
  chmod 0700 "$PGDATA"
  find "$PGDATA" \! -user postgres -exec chown postgres '{}' +
  # Secret files are often for root alone: they are read before stepping down.
  read_settings
  HOME=~postgres exec setpriv --reuid=postgres --regid=postgres --init-groups -- "${BASH_SOURCE[0]}" "$@"
}

make_cluster() {
  [[ -n $POSTGRES_PASSWORD || $POSTGRES_HOST_AUTH_METHOD == trust ]] ||
    fail "set POSTGRES_PASSWORD, POSTGRES_PASSWORD_FILE, or POSTGRES_HOST_AUTH_METHOD=trust"

  local arguments=()
  read -ra arguments <<<"$POSTGRES_INITDB_ARGS"
  # A test's data is not worth waiting for a disk.
  initdb --no-sync --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") \
    ${arguments[@]+"${arguments[@]}"}
  printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"
}

psql_in() {
  local database=$1
  shift
  psql --no-psqlrc --no-password --quiet --set ON_ERROR_STOP=1 \
    --username "$POSTGRES_USER" --dbname "$database" "$@"
}

make_database() {
  [[ $POSTGRES_DB != postgres ]] || return 0
  psql_in postgres --set database="$POSTGRES_DB" <<<'CREATE DATABASE :"database";'
}

run_init_scripts() {
  local script
  for script in /docker-entrypoint-initdb.d/*; do
    echo "entrypoint: init: $script"
    case $script in
      *.sh)
        if [[ -x $script ]]; then
          "$script"
        else
          # shellcheck disable=SC1090 # named at run time
          . "$script"
        fi
        ;;
      *.sql) psql_in "$POSTGRES_DB" --file "$script" ;;
      *.sql.gz) gunzip -c "$script" | psql_in "$POSTGRES_DB" ;;
      *) echo "entrypoint: init: ignored: $script" ;;
    esac
  done
}

# A server that only this container reaches, so that nobody sees a half-made cluster.
initialise() {
  shopt -s nullglob
  make_cluster
  # For init scripts that call psql themselves.
  export PGPASSWORD=$POSTGRES_PASSWORD
  PGUSER=$POSTGRES_USER pg_ctl --pgdata="$PGDATA" --wait --silent \
    --options="-c listen_addresses='' -p 5432" start
  make_database
  run_init_scripts
  PGUSER=$POSTGRES_USER pg_ctl --pgdata="$PGDATA" --wait --silent --mode=fast stop
  unset PGPASSWORD
  echo "entrypoint: init done"
}

if [[ ${1-} == -* ]]; then
  set -- postgres "$@"
fi

if [[ ${1-} == postgres ]]; then
  if [[ $(id -u) -eq 0 ]]; then
    step_down_to_postgres "$@"
  fi
  read_settings
  if [[ ! -s $PGDATA/PG_VERSION ]]; then
    initialise
  fi
  unset POSTGRES_PASSWORD
fi
exec "$@"
