-- keys: what every script is given as KEYS, in this order; lua/README.md describes each. The last four are stems: an
-- incarnation or an affinity key is appended to them. All carry the shard's hash tag, so all are in one Cluster slot.
-- KEYS[1] shard  [2] asserting  [3] leases  [4] orphans  [5] backends  [6] load  [7] users
-- KEYS[8] proxy  [9] held  [10] kicks  [11] binding
local shard, asserting, leases, orphans, backends, load, users, proxy, held, kicks, binding = unpack(KEYS)
