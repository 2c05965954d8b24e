"""Skills from elsewhere: the tools of servers that speak the Model Context Protocol, and the connections to them."""
