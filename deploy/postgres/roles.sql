-- Roles and databases of a team, each with what it needs and no more. Run it as a superuser, as often as you like:
--
--     DAGSTER_PASSWORD=… MLFLOW_PASSWORD=… BACKUP_PASSWORD=… psql --no-psqlrc -f deploy/postgres/roles.sql
--
-- Passwords come from the environment, so that no list of processes and no history of a shell holds them.
--
--   stock_assets_dagster  owns the database dagster: its tables are made and migrated by Dagster itself
--   stock_assets_mlflow   owns the database mlflow, likewise
--   stock_assets_backup   reads both, for pg_dump, and writes nothing
\set ON_ERROR_STOP on
SET client_min_messages = warning;
\getenv dagster_password DAGSTER_PASSWORD
\getenv mlflow_password MLFLOW_PASSWORD
\getenv backup_password BACKUP_PASSWORD
\if :{?dagster_password}
\else
  \warn 'DAGSTER_PASSWORD is not set; expected the password of the role stock_assets_dagster'
  SELECT 1 / 0 AS "DAGSTER_PASSWORD is not set";
\endif
\if :{?mlflow_password}
\else
  \warn 'MLFLOW_PASSWORD is not set; expected the password of the role stock_assets_mlflow'
  SELECT 1 / 0 AS "MLFLOW_PASSWORD is not set";
\endif
\if :{?backup_password}
\else
  \warn 'BACKUP_PASSWORD is not set; expected the password of the role stock_assets_backup'
  SELECT 1 / 0 AS "BACKUP_PASSWORD is not set";
\endif

SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY['stock_assets_dagster', 'stock_assets_mlflow', 'stock_assets_backup']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec

-- ten concurrent runs stay below 60 connections (docs/team.md); MLflow's server keeps a pool of its own
ALTER ROLE stock_assets_dagster WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
  CONNECTION LIMIT 80 PASSWORD :'dagster_password';
ALTER ROLE stock_assets_mlflow WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
  CONNECTION LIMIT 40 PASSWORD :'mlflow_password';
ALTER ROLE stock_assets_backup WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
  CONNECTION LIMIT 4 PASSWORD :'backup_password';
-- whatever a statement of a backup says, it writes nothing
ALTER ROLE stock_assets_backup SET default_transaction_read_only = on;

-- a superuser that is none, as on RDS, may give a database away only to a role that it is a member of
GRANT stock_assets_dagster, stock_assets_mlflow TO CURRENT_USER;

SELECT format('CREATE DATABASE %I OWNER %I', name, 'stock_assets_' || name)
FROM unnest(ARRAY['dagster', 'mlflow']) AS name
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name)
\gexec

-- by default every role may connect to every database
REVOKE ALL ON DATABASE dagster, mlflow FROM PUBLIC;
GRANT CONNECT ON DATABASE dagster TO stock_assets_dagster, stock_assets_backup;
GRANT CONNECT ON DATABASE mlflow TO stock_assets_mlflow, stock_assets_backup;
REVOKE CONNECT ON DATABASE postgres FROM PUBLIC;
GRANT pg_read_all_data TO stock_assets_backup;

\connect dagster
ALTER SCHEMA public OWNER TO stock_assets_dagster;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
\connect mlflow
ALTER SCHEMA public OWNER TO stock_assets_mlflow;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
