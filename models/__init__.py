"""What runs: bundles, partitions with their KV cache, exit heads, wire codecs, recipes."""
