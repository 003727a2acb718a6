"""What several test modules use: photos, small models, gateways and pages."""
