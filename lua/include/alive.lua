-- alive(inc): whether it has a lease. An orphan has none, nor has what was freed.
local function alive(inc)
  return redis.call('ZSCORE', leases, inc) ~= false
end
