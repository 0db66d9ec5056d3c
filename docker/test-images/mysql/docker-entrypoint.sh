#!/usr/bin/env bash
# Starts MySQL or MariaDB as the official images do: the first start makes the data, the users and the database that the
# environment names, and runs /docker-entrypoint-initdb.d with a server that no network reaches; any other command is run
# as it is.
set -Eeuo pipefail

data=/var/lib/mysql
socket=/run/mysqld/mysqld.sock
server=$COFFERDAM_TEST_SERVER

fail() {
  echo "entrypoint: $*" >&2
  exit 1
}

# ROOT_PASSWORD: $MARIADB_ROOT_PASSWORD or $MYSQL_ROOT_PASSWORD, or the content of the file that $…_FILE names.
setting() {
  local name=$1 value='' variable file
  for variable in "MARIADB_$name" "MYSQL_$name"; do
    file=${variable}_FILE
    [[ -z ${!variable-} || -z ${!file-} ]] || fail "both $variable and $file are set"
    value=${value:-${!variable-}}
    if [[ -z $value && -n ${!file-} ]]; then
      value=$(<"${!file}")
    fi
  done
  printf -v "$name" '%s' "$value"
  export "${name?}"
}

read_settings() {
  local name
  for name in ROOT_PASSWORD DATABASE USER PASSWORD; do
    setting "$name"
  done
  allow_empty=${MARIADB_ALLOW_EMPTY_ROOT_PASSWORD:-${MYSQL_ALLOW_EMPTY_PASSWORD:-}}
}

# A text as a string constant.
literal() {
  local text=${1//\\/\\\\}
  printf "'%s'" "${text//\'/\\\'}"
}

client() {
  if command -v mariadb >/dev/null; then mariadb "$@"; else mysql "$@"; fi
}

root() {
  MYSQL_PWD=$root_password client --no-defaults --protocol=socket --socket="$socket" -uroot "$@"
}

make_data() {
  [[ -n $ROOT_PASSWORD || -n $allow_empty ]] ||
    fail "set MYSQL_ROOT_PASSWORD, MYSQL_ROOT_PASSWORD_FILE, or MYSQL_ALLOW_EMPTY_PASSWORD"
  if [[ $server == mysqld ]]; then
    mysqld --initialize-insecure --user=mysql --datadir="$data"
  else
    mariadb-install-db --user=mysql --datadir="$data" --auth-root-authentication-method=normal --skip-test-db >/dev/null
  fi
}

make_users() {
  local password
  password=$(literal "$ROOT_PASSWORD")
  root <<SQL
CREATE USER IF NOT EXISTS 'root'@'%' IDENTIFIED BY $password;
GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;
ALTER USER 'root'@'localhost' IDENTIFIED BY $password;
SQL
  root_password=$ROOT_PASSWORD
  if [[ -n $DATABASE ]]; then
    root <<<"CREATE DATABASE IF NOT EXISTS \`$DATABASE\`;"
  fi
  if [[ -n $USER && -n $PASSWORD ]]; then
    root <<<"CREATE USER $(literal "$USER")@'%' IDENTIFIED BY $(literal "$PASSWORD");"
    if [[ -n $DATABASE ]]; then
      root <<<"GRANT ALL ON \`${DATABASE//_/\\_}\`.* TO $(literal "$USER")@'%';"
    fi
  fi
}

run_init_scripts() {
  local script
  shopt -s nullglob
  for script in /docker-entrypoint-initdb.d/*; do
    echo "entrypoint: init: $script"
    case $script in
      *.sh)
        # shellcheck disable=SC1090 # named at run time
        if [[ -x $script ]]; then "$script"; else . "$script"; fi
        ;;
      *.sql) root ${DATABASE:+"$DATABASE"} <"$script" ;;
      *.sql.gz) gunzip -c "$script" | root ${DATABASE:+"$DATABASE"} ;;
      *) echo "entrypoint: init: ignored: $script" ;;
    esac
  done
}

# A server that only this container reaches, so that nobody sees half-made data.
initialise() {
  root_password=''
  make_data
  "$server" --user=mysql --skip-networking --socket="$socket" "$@" &
  local pid=$! tries=0
  until root -e 'SELECT 1' >/dev/null 2>&1; do
    if ((++tries >= 600)) || ! kill -0 "$pid"; then
      fail "the first server does not come up"
    fi
    sleep 0.1
  done
  make_users
  run_init_scripts
  kill "$pid"
  wait "$pid" || true
  touch "$data/.entrypoint-done"
  echo "entrypoint: init done"
}

if [[ $# -eq 0 || ${1-} == -* ]]; then
  set -- server "$@"
fi

if [[ $1 == server ]]; then
  shift
  mkdir -p /run/mysqld "$data"
  chown mysql /run/mysqld "$data"
  read_settings
  if [[ ! -e $data/.entrypoint-done ]]; then
    initialise "$@"
  fi
  unset ROOT_PASSWORD DATABASE USER PASSWORD
  exec "$server" --user=mysql "$@"
fi
exec "$@"
