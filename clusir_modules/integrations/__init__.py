"""Other libraries that make networks by name: spandrel and timm. Import the one that you use."""
