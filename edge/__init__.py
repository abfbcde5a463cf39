"""The edge agent: decoding engine, exit policies, the link to the cloud, the local API."""
