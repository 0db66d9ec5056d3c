#!/bin/sh
# Makes the host's keys, and lets the user in.
set -eu

ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
ssh-keygen -q -t ecdsa -N '' -f /etc/ssh/ssh_host_ecdsa_key
ssh-keygen -q -t rsa -N '' -f /etc/ssh/ssh_host_rsa_key
echo "me:${SFTP_PASSWORD:?}" | chpasswd
install -d -o me -g me -m 0700 /home/me/.ssh
printf '%s\n' "${SFTP_KEY:-}" >/home/me/.ssh/authorized_keys
chown me:me /home/me/.ssh/authorized_keys
exec "$@"
