"""Where the hits of rate limits are counted: in a map, in a store, or in shares of a store's."""
