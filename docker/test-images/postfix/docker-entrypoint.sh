#!/bin/sh
# Configures postfix for one life of the container. SMTP_USER and SMTP_PASSWORD are those of the login; without them,
# nobody has to log in.
set -eu

cp /usr/share/postfix/main.cf.debian /etc/postfix/main.cf
postconf -e \
  myhostname=mail.test mydestination=mail.test compatibility_level=3.6 maillog_file=/dev/stdout \
  inet_interfaces=all inet_protocols=ipv4 alias_maps= alias_database= local_transport=local \
  mailbox_size_limit=0 mail_spool_directory=/var/mail \
  smtpd_tls_cert_file=/certs/cert.pem smtpd_tls_key_file=/certs/key.pem smtpd_tls_security_level=may

# The daemons look for users, certificates and passwords where they are.
postconf -F '*/*/chroot=n'
postconf -M 465/inet='465 inet n - n - - smtpd'
postconf -P '465/inet/smtpd_tls_wrappermode=yes'

if [ -n "${SMTP_USER:-}" ]; then
  mkdir -p /etc/postfix/sasl
  printf 'pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\n' >/etc/postfix/sasl/smtpd.conf
  printf '%s' "$SMTP_PASSWORD" | saslpasswd2 -p -c -u mail.test "$SMTP_USER"
  chgrp postfix /etc/sasldb2
  chmod 640 /etc/sasldb2
  postconf -e \
    smtpd_tls_security_level=encrypt smtpd_tls_auth_only=yes \
    smtpd_sasl_auth_enable=yes smtpd_sasl_local_domain=mail.test \
    smtpd_relay_restrictions=permit_sasl_authenticated,reject \
    smtpd_recipient_restrictions=reject_unlisted_recipient,permit_sasl_authenticated,reject
fi

exec "$@"
