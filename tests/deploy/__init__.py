"""What operators copy: dashboards, images, manifests and units, checked by others' tools."""
