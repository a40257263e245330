-- chosen(backend): a key was given the backend that place has just named (not by a pin): the next turn is another's.
local function chosen(backend)
  redis.call('HINCRBY', ranks, 'placed:' .. backend, 1)
  redis.call('SADD', stale, backend)
end
