terraform {
  required_version = ">= 1.9"
  required_providers {
    digitalocean = {
      source  = "digitalocean/digitalocean"
      version = "~> 2.50"
    }
  }
}

# DIGITALOCEAN_TOKEN, and for the bucket SPACES_ACCESS_KEY_ID and SPACES_SECRET_ACCESS_KEY, come from the environment.
provider "digitalocean" {}
