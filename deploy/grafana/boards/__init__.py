"""The dashboards, one module each; ``panels`` is what they share."""
