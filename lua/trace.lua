-- trace: a note: one more trace in a set, which lapses so long after the last new one. With `most` there, another goes.
-- ARGV[1] name  [2] trace  [3] ttl  [4] most
-- Includes: guard_key
-- Returns {"ok", how many there are}
local name, trace, ttl, most = unpack(ARGV)
local at = guard .. name
if redis.call('SISMEMBER', at, trace) == 0 then
  if redis.call('SCARD', at) >= tonumber(most) then redis.call('SPOP', at) end
  redis.call('SADD', at, trace)
  redis.call('PEXPIRE', at, ttl)
end
return { 'ok', redis.call('SCARD', at) }
