"""Sources -> prepared files -> loaders."""
