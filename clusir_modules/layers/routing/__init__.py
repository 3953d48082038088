"""Routing of images to experts."""
