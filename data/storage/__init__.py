"""Where shards lie and how their bytes come here: folders, servers, copies on this node."""
