-- occupy: a note: an incarnation has so many of something of which the fleet may have `most`, or any number with 0. Only what
-- those have counts that have a lease; who is neither registered nor an orphan is forgotten. To have less is always possible.
-- ARGV[1] name  [2] holder  [3] count  [4] most  [5] ttl
-- Includes: keys, guard_key, alive
-- Returns {"ok" or "full", what the others have}
local name, holder, count, most, ttl = unpack(ARGV)
count, most = tonumber(count), tonumber(most)
local at, had, others = guard .. name, 0, 0
local all = redis.call('HGETALL', at)
for i = 1, #all, 2 do
  if all[i] == holder then
    had = tonumber(all[i + 1])
  elseif alive(all[i]) then
    others = others + all[i + 1]
  elseif not redis.call('ZSCORE', stem .. 'orphans', all[i]) then
    redis.call('HDEL', at, all[i])
  end
end
if most > 0 and count > had and others + count > most then return { 'full', others } end
if count > 0 then
  redis.call('HSET', at, holder, count)
  redis.call('PEXPIRE', at, ttl)
else
  redis.call('HDEL', at, holder)
end
return { 'ok', others }
