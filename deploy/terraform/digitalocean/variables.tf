variable "name" {
  description = "Prefix of every name; small letters, digits and hyphens."
  type        = string
  default     = "stock-assets"
}

variable "bucket" {
  description = "Name of the bucket; a region's users share these names."
  type        = string
}

variable "region" {
  description = "A region with Spaces, such as fra1."
  type        = string
  default     = "fra1"
}

variable "network" {
  description = "The private addresses of the network."
  type        = string
  default     = "10.10.0.0/20"
}

variable "control_size" {
  description = "Machine of Postgres, web server, daemon, MLflow and proxy."
  type        = string
  default     = "s-2vcpu-4gb"
}

variable "data_size" {
  description = "Machine of the store and the runs: ten years of 500 tickers peak at about 6 GiB."
  type        = string
  default     = "s-4vcpu-8gb"
}

variable "store_gigabytes" {
  description = "Size of the volume of the data folder."
  type        = number
  default     = 50
}

variable "ssh_keys" {
  description = "Fingerprints of the keys that may log in."
  type        = list(string)
  validation {
    condition     = length(var.ssh_keys) > 0
    error_message = "Expected a key: there is no login by password."
  }
}

variable "administrators" {
  description = "Address ranges that may log in by SSH; never 0.0.0.0/0."
  type        = list(string)
  validation {
    condition     = length(var.administrators) > 0 && !contains(var.administrators, "0.0.0.0/0")
    error_message = "Expected the ranges of your own network, and not 0.0.0.0/0."
  }
}
