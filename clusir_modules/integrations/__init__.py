"""Other libraries that take our networks: spandrel, timm and deepinv. Import the one that you use."""
