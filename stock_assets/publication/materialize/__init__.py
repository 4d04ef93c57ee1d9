"""The steps that publish: read from the store, put into files, entered in the ledger, recorded in the store."""
