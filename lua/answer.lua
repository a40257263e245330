-- answer: an order: an errand is done. What is not known (any more) is not kept.
-- ARGV[1] clock  [2] recovery  [3] errand  [4] incarnation  [5] text
-- Includes: keys, rare_keys, clock, recall, errand
-- Returns {"ok"} | {"recovering", ms}
local given, recovery, number, inc, text = unpack(ARGV)
local LAG = 60000 -- ms: as in ask
local now = recall(given)
if not now then return { 'recovering', tonumber(recovery) } end
local member = redis.call('ZRANGEBYSCORE', errands, number, number)[1]
local _, till = errand(member)
if till and till > now then
  redis.call('HSET', said .. number, inc, text)
  redis.call('PEXPIRE', said .. number, till - now + LAG)
end
return { 'ok' }
