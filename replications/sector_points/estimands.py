"""Nothing: claims.yaml says every number in place."""
