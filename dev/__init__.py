"""Tools for development: private services, simulated trips, the demo."""
