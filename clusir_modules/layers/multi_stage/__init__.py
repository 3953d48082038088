"""Parts of MPRNet, for networks of several supervised stages."""
