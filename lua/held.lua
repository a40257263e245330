-- held: a page of the keys that the store thinks this incarnation holds, and of how many sessions it counts. Writes
-- nothing but seq.
-- ARGV[1] inc  [2] run  [3] seq  [4] clock  [5] cursor
-- Includes: keys, rare_keys, clock, enter
-- Returns {"ok", next cursor ("0" at the end), {key, sessions, ...}} | {"lost"} | {"stale"}
-- SSCAN counts buckets or, for a small set, nothing: a page may hold somewhat more than 100 keys.
local inc, run, seq, given, cursor = unpack(ARGV)
local now, refusal = enter(inc, run, seq, given)
if not now then return { refusal } end
local page = redis.call('SSCAN', held .. inc, cursor, 'COUNT', 100)
local counted = {}
for _, key in ipairs(page[2]) do
  counted[#counted + 1] = key
  counted[#counted + 1] = tonumber(redis.call('HGET', binding .. key, 'h:' .. inc) or 0)
end
return { 'ok', page[1], counted }
