-- ask: an order: give every live proxy an errand. Numbers grow, also beyond those that a live proxy has taken on from a
-- store that lost its memory since: it would take a lower one for done. What is over is forgotten.
-- ARGV[1] clock  [2] recovery  [3] text  [4] ttl
-- Includes: keys, rare_keys, clock, recall, tell, errand
-- Returns {"ok", number, {incarnation, ...}}: who has a lease | {"recovering", ms}
local given, recovery, text, ttl = unpack(ARGV)
ttl = tonumber(ttl)
local LAG = 60000 -- ms: Redis may forget by its own clock, which may be so far before ours
local now = recall(given)
if not now then return { 'recovering', tonumber(recovery) } end

for _, member in ipairs(redis.call('ZRANGE', errands, 0, -1)) do
  local number, till = errand(member)
  if till <= now then
    redis.call('ZREM', errands, member)
    redis.call('DEL', said .. string.format('%.0f', number))
  end
end
local live, last = redis.call('ZRANGE', leases, 0, -1), tonumber(redis.call('HGET', shard, 'errand') or 0)
for _, inc in ipairs(live) do last = math.max(last, tonumber(redis.call('HGET', proxy .. inc, 'errand') or 0)) end
local number = math.max(now, last + 1)
redis.call('HSET', shard, 'errand', number)
redis.call('ZADD', errands, number, string.format('%.0f %.0f ', number, now + ttl) .. text)
if redis.call('PTTL', errands) < ttl + LAG then redis.call('PEXPIRE', errands, ttl + LAG) end
tell()
return { 'ok', number, live }
