terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

# Region and credentials come from the environment (AWS_REGION, AWS_PROFILE, or a role); none stands here.
# State holds names and addresses and no password, as RDS makes its own. Keep it in a bucket all the same:
# a file backend.tf with a `backend "s3"` block and use_lockfile = true.
provider "aws" {
  default_tags {
    tags = {
      Project = var.name
    }
  }
}
