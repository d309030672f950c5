"""Pages of the catalog that need the work's own packages: trying a deployment out."""
