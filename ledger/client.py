"""The ledger as other services see it: typed, asynchronous, batched. Everything they may know of the ledger is re-exported here."""
