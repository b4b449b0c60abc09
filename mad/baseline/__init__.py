"""Everything fitted on trusted data, as versioned bundles."""
