# The two virtual machines of docs/deployment.md, their private network, the store's volume and a bucket.

resource "digitalocean_vpc" "this" {
  name     = var.name
  region   = var.region
  ip_range = var.network
}

resource "digitalocean_droplet" "control" {
  name       = "${var.name}-control"
  region     = var.region
  size       = var.control_size
  image      = "debian-13-x64"
  vpc_uuid   = digitalocean_vpc.this.id
  ssh_keys   = var.ssh_keys
  monitoring = true
  backups    = true
  user_data  = file("${path.module}/host.yaml")
}

resource "digitalocean_droplet" "data" {
  name       = "${var.name}-data"
  region     = var.region
  size       = var.data_size
  image      = "debian-13-x64"
  vpc_uuid   = digitalocean_vpc.this.id
  ssh_keys   = var.ssh_keys
  monitoring = true
  user_data  = file("${path.module}/host.yaml")
}

# Outlives the machine: a new one takes it over. Docker's volumes of the data host lie on it.
resource "digitalocean_volume" "store" {
  name                    = "${var.name}-store"
  region                  = var.region
  size                    = var.store_gigabytes
  initial_filesystem_type = "ext4"
  lifecycle {
    prevent_destroy = true
  }
}

resource "digitalocean_volume_attachment" "store" {
  droplet_id = digitalocean_droplet.data.id
  volume_id  = digitalocean_volume.store.id
}

resource "digitalocean_firewall" "control" {
  name        = "${var.name}-control"
  droplet_ids = [digitalocean_droplet.control.id]
  dynamic "inbound_rule" {
    for_each = ["80", "443"]
    content {
      protocol         = "tcp"
      port_range       = inbound_rule.value
      source_addresses = ["0.0.0.0/0", "::/0"]
    }
  }
  inbound_rule {
    protocol         = "tcp"
    port_range       = "22"
    source_addresses = var.administrators
  }
  # Postgres and MLflow, for the data host alone
  dynamic "inbound_rule" {
    for_each = ["5432", "5000"]
    content {
      protocol           = "tcp"
      port_range         = inbound_rule.value
      source_droplet_ids = [digitalocean_droplet.data.id]
    }
  }
  outbound_rule {
    protocol              = "tcp"
    port_range            = "1-65535"
    destination_addresses = ["0.0.0.0/0", "::/0"]
  }
  outbound_rule {
    protocol              = "udp"
    port_range            = "1-65535"
    destination_addresses = ["0.0.0.0/0", "::/0"]
  }
}

resource "digitalocean_firewall" "data" {
  name        = "${var.name}-data"
  droplet_ids = [digitalocean_droplet.data.id]
  inbound_rule {
    protocol         = "tcp"
    port_range       = "22"
    source_addresses = var.administrators
  }
  # The code server runs what it is told: the control host alone reaches it, and the API.
  dynamic "inbound_rule" {
    for_each = ["4000", "8000"]
    content {
      protocol           = "tcp"
      port_range         = inbound_rule.value
      source_droplet_ids = [digitalocean_droplet.control.id]
    }
  }
  outbound_rule {
    protocol              = "tcp"
    port_range            = "1-65535"
    destination_addresses = ["0.0.0.0/0", "::/0"]
  }
  outbound_rule {
    protocol              = "udp"
    port_range            = "1-65535"
    destination_addresses = ["0.0.0.0/0", "::/0"]
  }
}

resource "digitalocean_spaces_bucket" "this" {
  name   = var.bucket
  region = var.region
  acl    = "private"
  versioning {
    enabled = true
  }
  lifecycle_rule {
    id      = "earlier-versions"
    enabled = true
    noncurrent_version_expiration {
      days = 90
    }
  }
}
