-- orphan(inc, due): takes a lease away. The sessions leave the load; the keys stay bound by them until due.
local function orphan(inc, due)
  redis.call('ZREM', leases, inc)
  redis.call('ZADD', orphans, due, inc)
  redis.call('SREM', asserting, inc)
  redis.call('HSET', proxy .. inc, 'orphan', 1)
  local fields = redis.call('HGETALL', proxy .. inc)
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 2) == 'l:' then add(load, string.sub(fields[i], 3), -tonumber(fields[i + 1])) end
  end
end
