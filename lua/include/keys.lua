-- keys: what every script is given as KEYS, in this order; lua/README.md describes each. nudge is a channel. The last seven
-- are stems: an incarnation, an affinity key, a number or a pool is appended to them. All carry the shard's hash tag, so
-- all are in one Cluster slot.
-- KEYS[1] shard  [2] asserting  [3] leases  [4] orphans  [5] backends  [6] load  [7] users  [8] moving  [9] errands
-- KEYS[10] ranks  [11] stale  [12] nudge  [13] proxy  [14] held  [15] kicks  [16] binding  [17] past  [18] said  [19] ranked
local shard, asserting, leases, orphans, backends, load, users, moving, errands, ranks, stale, nudge, proxy, held, kicks,
  binding, past, said, ranked = unpack(KEYS)
