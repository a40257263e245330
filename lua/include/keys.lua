-- keys: what every script is given as KEYS, in this order; lua/README.md describes each. The last five are stems: an
-- incarnation, an affinity key or a pool is appended to them. All carry the shard's hash tag, so all are in one Cluster slot.
-- KEYS[1] shard  [2] asserting  [3] leases  [4] orphans  [5] backends  [6] load  [7] users
-- KEYS[8] ranks  [9] stale  [10] proxy  [11] held  [12] kicks  [13] binding  [14] ranked
local shard, asserting, leases, orphans, backends, load, users, ranks, stale, proxy, held, kicks, binding, ranked = unpack(KEYS)
