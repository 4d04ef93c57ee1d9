# The four addresses of the profile `cloud`. Passwords are added where they are used, from the secret.
output "dagster" {
  description = "STOCK_ASSETS_DAGSTER, without the password."
  value       = "postgresql+psycopg2://stock_assets_dagster@${aws_db_instance.this.endpoint}/dagster?sslmode=require"
}

output "store" {
  description = "STOCK_ASSETS_STORE: the store stays a file, on the volume of the data folder."
  value       = "/var/lib/stock_assets/stock_assets.duckdb"
}

output "artifacts" {
  description = "STOCK_ASSETS_ARTIFACTS."
  value       = "s3://${aws_s3_bucket.this.id}/artifacts"
}

output "mlflow" {
  description = "STOCK_ASSETS_MLFLOW: the server that the chart runs."
  value       = "http://stock-assets-mlflow:5000"
}

output "mlflow_backend" {
  description = "MLFLOW_BACKEND_STORE_URI, without the password."
  value       = "postgresql+psycopg2://stock_assets_mlflow@${aws_db_instance.this.endpoint}/mlflow?sslmode=require"
}

output "image_repository" {
  description = "Where the image is pushed to; `image.repository` of the chart."
  value       = aws_ecr_repository.this.repository_url
}

output "platform_role" {
  description = "`serviceAccount.annotations` of the chart: eks.amazonaws.com/role-arn."
  value       = aws_iam_role.platform.arn
}

output "cluster" {
  description = "For `aws eks update-kubeconfig --name`."
  value       = aws_eks_cluster.this.name
}

output "secret" {
  description = "The secret that a person fills."
  value       = aws_secretsmanager_secret.platform.name
}
