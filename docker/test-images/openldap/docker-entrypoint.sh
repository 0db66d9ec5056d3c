#!/usr/bin/env bash
# Starts slapd. The first start makes the configuration and the root entry of LDAP_DOMAIN; any other command is run as it is.
set -Eeuo pipefail

fail() {
  echo "entrypoint: $*" >&2
  exit 1
}

read_settings() {
  : "${LDAP_DOMAIN:=example.org}"
  [[ $LDAP_DOMAIN =~ ^[a-z0-9-]+(\.[a-z0-9-]+)*$ ]] || fail "LDAP_DOMAIN is no domain: $LDAP_DOMAIN"
  if [[ -n ${LDAP_ADMIN_PASSWORD_FILE-} ]]; then
    LDAP_ADMIN_PASSWORD=$(<"$LDAP_ADMIN_PASSWORD_FILE")
  fi
  [[ -n ${LDAP_ADMIN_PASSWORD-} ]] || fail "set LDAP_ADMIN_PASSWORD or LDAP_ADMIN_PASSWORD_FILE"
  suffix=dc=${LDAP_DOMAIN//./,dc=}
}

# Root of this container manages the configuration over ldapi; the data is for the directory's own administrator.
configuration() {
  local root='gidNumber=0+uidNumber=0,cn=peercred,cn=external,cn=auth'
  cat <<LDIF
dn: cn=config
objectClass: olcGlobal
cn: config
olcPidFile: /run/slapd/slapd.pid

dn: cn=module{0},cn=config
objectClass: olcModuleList
cn: module{0}
olcModulePath: /usr/lib/ldap
olcModuleLoad: back_mdb

dn: cn=schema,cn=config
objectClass: olcSchemaConfig
cn: schema

include: file:///etc/ldap/schema/core.ldif
include: file:///etc/ldap/schema/cosine.ldif
include: file:///etc/ldap/schema/inetorgperson.ldif

dn: olcDatabase={-1}frontend,cn=config
objectClass: olcDatabaseConfig
objectClass: olcFrontendConfig
olcDatabase: {-1}frontend

dn: olcDatabase={0}config,cn=config
objectClass: olcDatabaseConfig
olcDatabase: {0}config
olcAccess: to * by dn.exact=$root manage by * none

dn: olcDatabase={1}mdb,cn=config
objectClass: olcDatabaseConfig
objectClass: olcMdbConfig
olcDatabase: {1}mdb
olcSuffix: $suffix
olcRootDN: cn=admin,$suffix
olcRootPW: $(slappasswd -T <(printf %s "$LDAP_ADMIN_PASSWORD"))
olcDbDirectory: /var/lib/ldap
olcDbIndex: objectClass eq
olcDbIndex: uid eq
olcAccess: to attrs=userPassword by self write by anonymous auth by * none
olcAccess: to * by * read
LDIF
}

root_entry() {
  cat <<LDIF
dn: $suffix
objectClass: dcObject
objectClass: organization
dc: ${LDAP_DOMAIN%%.*}
o: $LDAP_DOMAIN
LDIF
}

initialise() {
  read_settings
  configuration | slapadd -n 0 -F /etc/ldap/slapd.d
  root_entry | slapadd -n 1 -F /etc/ldap/slapd.d
  chown -R openldap:openldap /etc/ldap/slapd.d /var/lib/ldap
}

if [[ ${1-} == slapd ]]; then
  [[ -e /etc/ldap/slapd.d/cn=config.ldif ]] || initialise
fi
exec "$@"
