#!/usr/bin/env bash
# What the demos of the examples share. A demo.sh sources it in its own directory, with the project's usual name, and
# calls `begin` before it makes anything. What it makes beside the project, it removes in a function `tidy_up_more`; where
# compose does not make the project, it has `present` and `take_down` of its own.
# shellcheck disable=SC2034 # used by those who source it

export COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-$1}
export COFFERDAM_IMAGE=${COFFERDAM_IMAGE:-cofferdam}
project=$COMPOSE_PROJECT_NAME
# Service containers are named otherwise by each flavour; the commands are the same.
if docker compose version >/dev/null 2>&1; then
  compose='docker compose'
else
  compose='docker-compose'
fi

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
  local command=${1//"$compose run --rm "/"$compose run $no_tty --rm "}
  command=${command//"$compose exec "/"$compose exec -T "}
  command=${command//" exec -T cofferdam "/" exec cofferdam "}
  eval "${command//" exec cofferdam "/" exec $no_tty cofferdam "}"
}

# The same for commands that have much to say: it is heard only when they fail.
run_quietly() {
  local said
  printf '\n%s$ %s%s\n' "$blue" "$1" "$plain"
  said=$(eval "$1" 2>&1) || fail "that failed:"$'\n'"$said"
}

# What there is of the project.
present() {
  docker ps --all --quiet --filter "label=com.docker.compose.project=$project"
  docker volume ls --quiet --filter "label=com.docker.compose.project=$project"
}

# Removes all of it.
take_down() { $compose down --volumes --timeout 5; }

# Makes sure that there is nothing to be destroyed, and that nothing stays.
begin() {
  local left
  left=$(present)
  [[ -z $left ]] || fail "there is a project $project on this engine already, and the demo would destroy its data;
      remove it, or set COMPOSE_PROJECT_NAME to another name"
  trap tidy_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

tidy_up() {
  local status=$?
  trap '' INT TERM
  heading "Tidying up"
  docker rm --force "cofferdam-hold-$project" >/dev/null 2>&1 || true
  take_down >/dev/null 2>&1 || note "could not remove all of project $project"
  if declare -F tidy_up_more >/dev/null; then
    tidy_up_more
  fi
  rm -rf tmp/demo
  exit "$status"
}

# wait_until_healthy SERVICE...
wait_until_healthy() {
  local service container
  for service; do
    container=$($compose ps -q "$service")
    for _ in {1..120}; do
      [[ $(docker inspect --format '{{.State.Health.Status}}' "$container") != healthy ]] || continue 2
      sleep 0.5
    done
    fail "$service is not healthy after a minute: $compose logs $service"
  done
}
