#!/bin/sh
# Saves and puts back a database of OpenLDAP's slapd (back-mdb, cn=config) while slapd runs: the commands of cofferdam's
# `command` labels. It runs in slapd's container as root, which may read cn=config over ldapi (as Debian and the usual images
# set it up), and writes as the database's root DN: the password is in LDAP_ADMIN_PASSWORD, or in the file that
# LDAP_ADMIN_PASSWORD_FILE names.
#
# usage: openldap.sh dump|load|check [NUMBER]      the database's number, as slapcat counts; 1 without one
#
#   dump    prints the database as LDIF, and a last line that says that it is whole
#   load    reads such an LDIF, and makes the database what it says
#   check   finds the root entry, over ldapi
#
# slapadd must not write to a database that slapd has open. So load goes through slapd itself: it reads the LDIF to its last
# line, has slapadd try it out without writing anything, and only then deletes the entries that are there, children first,
# and adds the saved ones, parents first. It stops at the first error:
#
#   before the first entry is deleted   the old data is in use, and untouched
#   after that                          some of it is gone: the safety snapshot has to be loaded, which cofferdam does
#
# Clients see a half directory meanwhile: stop them (`cofferdam.stop: restore`). Everything comes back as it was, entryUUID,
# times and hashes of passwords with it, but for entryCSN and contextCSN: to replicas, a restore is a change like any other.
set -eu
umask 077

END='# end of dump'
number=${2:-1}

fail() {
  echo "openldap.sh: $*" >&2
  exit 1
}

case $number in
  '' | *[!0-9]*) fail "not a number of a database: $number" ;;
esac

# A directory that nobody else reads: $work.
make_room() {
  work=$(mktemp -d /tmp/openldap.sh.XXXXXX)
  trap 'rm -rf "$work"' EXIT
  trap 'exit 1' HUP INT TERM
}

entries() { slapcat -o ldif-wrap=no -n "$number"; }

# configured ATTRIBUTE: what slapd's configuration says of the database.
configured() {
  ldapsearch -Q -LLL -o ldif-wrap=no -Y EXTERNAL -H ldapi:/// -b cn=config "(olcDatabase={$number}mdb)" "$1" |
    sed -n "s/^$1: //p"
}

# The password goes through a file: arguments are for everybody to see.
find_root() {
  root=$(configured olcRootDN)
  [ -n "$root" ] || fail "slapd's configuration has no database $number with a root DN that $(id -un) may see"
  if [ -n "${LDAP_ADMIN_PASSWORD_FILE-}" ]; then
    LDAP_ADMIN_PASSWORD=$(cat "$LDAP_ADMIN_PASSWORD_FILE")
  fi
  [ -n "${LDAP_ADMIN_PASSWORD-}" ] || fail "set LDAP_ADMIN_PASSWORD_FILE to the file with the password of $root"
  printf %s "$LDAP_ADMIN_PASSWORD" >"$work/password"
  as_root ldapwhoami >/dev/null
}

as_root() {
  program=$1
  shift
  "$program" -x -D "$root" -y "$work/password" -H ldapi:/// "$@"
}

change() { as_root ldapmodify -e relax -f "$1" >/dev/null; }

# changes delete|add: of the entries of an LDIF, what ldapmodify has to do. Children are deleted first, parents added first.
# What slapd keeps for itself is left out.
changes() {
  case $1 in
    delete) order=1nr ;;
    add) order=1n ;;
  esac
  LC_ALL=C awk -v RS='' -v FS='\n' -v change="$1" '
    function decoded(text, command, name) {
      if (text !~ /^[A-Za-z0-9+\/=]+$/) exit 1
      command = "printf %s " text " | base64 -d"
      command | getline name
      close(command)
      return name
    }
    $1 ~ /^dn::? / {
      name = $1
      if (sub(/^dn: /, "", name) == 0) { sub(/^dn:: /, "", name); name = decoded(name) }
      gsub(/\\./, "", name)
      printf "%d\002%s\001changetype: %s", gsub(/,/, "", name), $1, change
      for (field = 2; field <= NF && change == "add"; field++)
        if ($field !~ /^(structuralObjectClass|entryCSN|contextCSN):/ && $field !~ /^#/) printf "\001%s", $field
      print ""
    }
  ' | sort -s -t "$(printf '\002')" -k "1,$order" | cut -d "$(printf '\002')" -f 2 | awk '{ gsub(/\001/, "\n"); print $0 "\n" }'
}

ensure_as_many() {
  there=$(grep -c '^dn:' "$1") || true
  understood=$(grep -c '^changetype: ' "$2") || true
  [ "$there" = "$understood" ] || fail "of $there entries, $understood could be read; nothing was touched"
}

dump() {
  entries
  echo "$END"
}

load() {
  # One at a time. A load whose cofferdam was killed may still be at work.
  exec 9<"$0"
  flock -w 3600 9 || fail "another load does not end"
  # What a load that was killed has left.
  rm -rf /tmp/openldap.sh.??????

  make_room
  find_root
  cat >"$work/ldif"
  [ "$(tail -n 1 "$work/ldif")" = "$END" ] || fail "the dump is not whole: its last line is missing"
  slapadd -u -n "$number" -l "$work/ldif" || fail "slapd's configuration does not take the dump; nothing was touched"

  entries >"$work/present"
  changes delete <"$work/present" >"$work/delete"
  changes add <"$work/ldif" >"$work/add"
  ensure_as_many "$work/present" "$work/delete"
  ensure_as_many "$work/ldif" "$work/add"
  [ ! -s "$work/delete" ] || change "$work/delete"
  [ ! -s "$work/add" ] || change "$work/add"

  expected=$(grep -c '^dn:' "$work/ldif") || true
  found=$(entries | grep -c '^dn:') || true
  [ "$found" = "$expected" ] || fail "$expected entries were to be there, and $found are"
}

check() {
  make_room
  find_root
  as_root ldapsearch -LLL -s base -b "$(configured olcSuffix)" dn >/dev/null
}

case ${1-} in
  dump | load | check) "$1" ;;
  *) fail "usage: openldap.sh dump|load|check [NUMBER]" ;;
esac
