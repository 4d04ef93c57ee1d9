#!/bin/sh
# Runs once, when the database's volume is new: the roles and databases of deploy/postgres/roles.sql.
set -eu
exec /usr/local/bin/with-secrets psql --no-psqlrc --username "${POSTGRES_USER:-postgres}" --dbname postgres \
  --file /etc/stock_assets/roles.sql
