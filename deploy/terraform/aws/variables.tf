variable "name" {
  description = "Prefix of every name; small letters, digits and hyphens."
  type        = string
  default     = "stock-assets"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,30}$", var.name))
    error_message = "Expected 3 to 31 small letters, digits and hyphens, beginning with a letter."
  }
}

variable "bucket" {
  description = "Name of the bucket; the whole world shares these names."
  type        = string
}

variable "network" {
  description = "The private addresses of the network."
  type        = string
  default     = "10.20.0.0/16"
}

variable "zones" {
  description = "Two availability zones. Nodes run in the first, since the store's volume cannot leave its zone."
  type        = list(string)
  validation {
    condition     = length(var.zones) == 2
    error_message = "Expected two zones, such as [\"eu-central-1a\", \"eu-central-1b\"]."
  }
}

variable "administrators" {
  description = "Address ranges that reach the API of the cluster; never 0.0.0.0/0."
  type        = list(string)
  validation {
    condition     = length(var.administrators) > 0 && !contains(var.administrators, "0.0.0.0/0")
    error_message = "Expected the ranges of your own network, and not 0.0.0.0/0."
  }
}

variable "kubernetes_version" {
  description = "Version of Kubernetes."
  type        = string
  default     = "1.33"
}

variable "node_type" {
  description = "Machine of the node that holds the store and the runs: ten years of 500 tickers peak at about 6 GiB."
  type        = string
  default     = "m7i.xlarge"
}

variable "database_type" {
  description = "Machine of Postgres."
  type        = string
  default     = "db.t4g.medium"
}

variable "database_standby" {
  description = "Whether a standby in the second zone takes over when the database's machine is lost; doubles its price."
  type        = bool
  default     = false
}

variable "backup_days" {
  description = "Days for which the database can be put back to any second, and volumes to any night; 7 to 35."
  type        = number
  default     = 14
  validation {
    condition     = var.backup_days >= 7 && var.backup_days <= 35
    error_message = "Expected 7 to 35."
  }
}

variable "cluster_addons" {
  description = "Add-ons of EKS: volumes, network policies, names."
  type        = set(string)
  default     = ["aws-ebs-csi-driver", "coredns", "kube-proxy", "vpc-cni"]
}

variable "namespace" {
  description = "Namespace of the chart; its service account may use the bucket."
  type        = string
  default     = "stock-assets"
}

variable "monthly_budget" {
  description = "US dollars a month; 80 % of them, and a forecast above them, are mailed to the addresses below."
  type        = number
  default     = 400
}

variable "budget_mail" {
  description = "Addresses that the budget's alarm goes to; no budget without one."
  type        = list(string)
}

variable "select_volumes" {
  description = "Whether the volumes of the namespace are backed up every night."
  type        = bool
  default     = true
}
