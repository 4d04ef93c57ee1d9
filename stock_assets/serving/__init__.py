"""The API and the dashboard: what is published, answered over HTTP."""
