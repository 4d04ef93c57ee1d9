# Service accounts of the cluster as roles of AWS: no key is stored anywhere.
resource "aws_iam_openid_connect_provider" "cluster" {
  url            = aws_eks_cluster.this.identity[0].oidc[0].issuer
  client_id_list = ["sts.amazonaws.com"]
}

locals {
  issuer = replace(aws_iam_openid_connect_provider.cluster.url, "https://", "")
  service_accounts = {
    platform = "system:serviceaccount:${var.namespace}:stock-assets"
    volumes  = "system:serviceaccount:kube-system:ebs-csi-controller-sa"
  }
}

data "aws_iam_policy_document" "assumed_by_service_account" {
  for_each = local.service_accounts
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.cluster.arn]
    }
    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = [each.value]
    }
    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "platform" {
  name               = "${var.name}-platform"
  assume_role_policy = data.aws_iam_policy_document.assumed_by_service_account["platform"].json
}

# The same rights as on any other S3: deploy/s3/policy.json.
resource "aws_iam_role_policy" "platform" {
  name   = "bucket"
  role   = aws_iam_role.platform.id
  policy = replace(file("${path.module}/../../s3/policy.json"), "BUCKET", aws_s3_bucket.this.id)
}

resource "aws_iam_role" "volumes" {
  name               = "${var.name}-volumes"
  assume_role_policy = data.aws_iam_policy_document.assumed_by_service_account["volumes"].json
}

resource "aws_iam_role_policy_attachment" "volumes" {
  role       = aws_iam_role.volumes.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy"
}

# Empty: a person writes the value once (docs/deployment.md), so that neither a variable nor the state holds it.
resource "aws_secretsmanager_secret" "platform" {
  name        = "${var.name}/platform"
  description = "The secret of the chart: STOCK_ASSETS_DAGSTER, STOCK_ASSETS_UI_TOKEN, MLFLOW_BACKEND_STORE_URI"
}
