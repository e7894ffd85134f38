"""Every number of claims.yaml is said there in place."""
