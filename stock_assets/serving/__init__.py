"""What is published, answered over HTTP: the API and the dashboard, which know neither the store nor a model."""
