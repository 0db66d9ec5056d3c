#!/bin/sh
# Stands in for candig-ingest: gives katsu one record for each name on the command line.
set -eu

for donor; do
  curl --fail --silent --show-error http://katsu:8000/donors \
    --data "{\"submitter_donor_id\": \"$donor\", \"program_id\": \"MOH-SYNTH-01\"}"
  echo
done
