"""Other libraries that take our networks or degradations: spandrel, timm, deepinv, kornia. Import the one you use."""
