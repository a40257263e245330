-- tally: a note: counts one more. The count lapses so long after the first.
-- ARGV[1] name  [2] ttl
-- Includes: guard_key
-- Returns {"ok", the count}
local name, ttl = unpack(ARGV)
local count = redis.call('INCR', guard .. name)
if count == 1 then redis.call('PEXPIRE', guard .. name, ttl) end
return { 'ok', count }
