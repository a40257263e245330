-- answers: an order: read the answers to an errand. Writes nothing.
-- ARGV[1] clock  [2] recovery  [3] errand
-- Includes: keys, rare_keys, clock, recall, errand
-- Returns {"ok", {incarnation, ...}, {incarnation, text, ...}}: who has a lease, and who has answered; both empty once the
-- errand is forgotten | {"recovering", ms}
local given, recovery, number = unpack(ARGV)
local now = recall(given)
if not now then return { 'recovering', tonumber(recovery) } end
local member = redis.call('ZRANGEBYSCORE', errands, number, number)[1]
local _, till = errand(member)
if not till or till <= now then return { 'ok', {}, {} } end
return { 'ok', redis.call('ZRANGE', leases, 0, -1), redis.call('HGETALL', said .. number) }
