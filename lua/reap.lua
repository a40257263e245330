-- reap: two-stage expiry. A lease that is over costs the load; only an orphan that is due loses its keys, page by page.
-- ARGV[1] inc  [2] run  [3] seq  [4] clock  [5] whose  [6] orphan_grace  [7] remember  [8] kick_delay
-- Includes: keys, rare_keys, clock, enter, alive, gather, add, enlist, save, expire, unbind, read, fetch, count, hook
-- Includes: attend, wake, rest, orphan, spill
-- Returns {"alive"} | {"orphan"} | {"more"} | {"gone"} | {"lost"} | {"stale"}
-- The first page voids the epoch, so that an orphan that returns half freed re-asserts all of it.
local inc, run, seq, given, whose, orphan_grace, remember, kick_delay = unpack(ARGV)
remember, kick_delay = tonumber(remember), tonumber(kick_delay)
local PAGE = 100

local now, refusal = enter(inc, run, seq, given)
if not now then return { refusal } end
local lease_end = redis.call('ZSCORE', leases, whose)
if lease_end then
  if tonumber(lease_end) > now then return { 'alive' } end
  orphan(whose, lease_end + tonumber(orphan_grace))
end
-- Whoever is registered nowhere is due: what is left of it belongs to nobody.
local due = redis.call('ZSCORE', orphans, whose)
if due and tonumber(due) > now then return { 'orphan' } end

if redis.call('EXISTS', proxy .. whose) == 1 then redis.call('HSET', proxy .. whose, 'epoch', 0) end
gather()
for _, key in ipairs(redis.call('SPOP', held .. whose, PAGE)) do
  local b = fetch(key, now, remember)
  if b then
    count(b, whose, 0)
    rest(b, now, remember, kick_delay)
  end
end
spill()
if redis.call('EXISTS', held .. whose) == 1 then return { 'more' } end
redis.call('ZREM', orphans, whose)
redis.call('DEL', proxy .. whose, kicks .. whose)
return { 'gone' }
