-- keys: what every script is given as KEYS, in this order; lua/README.md describes each. nudge is a channel. The last six
-- are stems: an incarnation, an affinity key or a number is appended to them. All carry the shard's hash tag, so all are
-- in one Cluster slot.
-- KEYS[1] shard  [2] asserting  [3] leases  [4] orphans  [5] backends  [6] load  [7] users  [8] moving  [9] errands
-- KEYS[10] nudge  [11] proxy  [12] held  [13] kicks  [14] binding  [15] past  [16] said
local shard, asserting, leases, orphans, backends, load, users, moving, errands, nudge, proxy, held, kicks, binding, past,
  said = unpack(KEYS)
