-- keys: the names of keys; lua/README.md describes each. Scripts are given their stem, which is the shard's hash tag, so all
-- are in one Cluster slot. The last four of these, and of those in rare_keys, are stems themselves: an incarnation, an
-- affinity key, a number or a pool is appended.
-- KEYS[1] stem
local stem = KEYS[1]
local shard, asserting, backends, load, users = stem .. 'shard', stem .. 'asserting', stem .. 'backends', stem .. 'load',
  stem .. 'users'
local leases, stale = stem .. 'leases', stem .. 'stale'
local proxy, held, kicks, binding = stem .. 'p:', stem .. 'px:', stem .. 'kick:', stem .. 'b:'
