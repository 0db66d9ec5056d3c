#!/bin/sh
# Makes the user, and a certificate that its clients have to be told to trust.
set -eu

htpasswd -bc /etc/apache2/users "${WEBDAV_USER:-me}" "${WEBDAV_PASSWORD:?}" 2>/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
  -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
  -keyout /etc/apache2/server.key -out /etc/apache2/server.pem 2>/dev/null
exec "$@"
