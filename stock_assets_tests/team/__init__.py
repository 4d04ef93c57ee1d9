"""The profile of a team: Postgres, objects on S3 and several hosts. `make test-team` runs what needs these."""
