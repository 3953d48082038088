"""Places where people already are: safetensors, Hugging Face Hub, spandrel, timm. Import the one that is wanted."""
