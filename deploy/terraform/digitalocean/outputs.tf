# The four addresses of the profile `team`. Passwords are those of make-secrets.
output "dagster" {
  description = "STOCK_ASSETS_DAGSTER, without the password."
  value       = "postgresql+psycopg2://stock_assets_dagster@${digitalocean_droplet.control.ipv4_address_private}:5432/dagster"
}

output "store" {
  description = "STOCK_ASSETS_STORE: the store stays a file, on the volume of the data host."
  value       = "/var/lib/stock_assets/stock_assets.duckdb"
}

output "artifacts" {
  description = "STOCK_ASSETS_ARTIFACTS, with the endpoint below."
  value       = "s3://${digitalocean_spaces_bucket.this.name}/artifacts"
}

output "mlflow" {
  description = "STOCK_ASSETS_MLFLOW."
  value       = "http://${digitalocean_droplet.control.ipv4_address_private}:5000"
}

output "endpoint" {
  description = "AWS_ENDPOINT_URL in objects.env of both hosts."
  value       = "https://${var.region}.digitaloceanspaces.com"
}

output "hosts" {
  description = "Public and private addresses: DNS, and CONTROL_ADDRESS and DATA_ADDRESS of .env."
  value = {
    control = [digitalocean_droplet.control.ipv4_address, digitalocean_droplet.control.ipv4_address_private]
    data    = [digitalocean_droplet.data.ipv4_address, digitalocean_droplet.data.ipv4_address_private]
  }
}
