-- forget: an incarnation is known to be dead. Makes it an orphan if it is none, and due for freeing now.
-- ARGV[1] inc  [2] run  [3] seq  [4] clock  [5] dead
-- Includes: keys, rare_keys, clock, enter, gather, add, orphan
-- Returns {"more"}: reap it | {"gone"}: it was not registered | {"lost"} | {"stale"}
local inc, run, seq, given, dead = unpack(ARGV)
local now, refusal = enter(inc, run, seq, given)
if not now then return { refusal } end
if redis.call('ZSCORE', leases, dead) then
  orphan(dead, now)
elseif redis.call('ZSCORE', orphans, dead) then
  redis.call('ZADD', orphans, now, dead)
else
  return { 'gone' }
end
return { 'more' }
