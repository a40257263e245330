-- alive(inc): whether it has a lease. An orphan has none, nor has what was freed. Asked once per call: a script takes a lease
-- away, if at all, before it counts.
local lives = {}

local function alive(inc)
  if lives[inc] == nil then lives[inc] = redis.call('ZSCORE', leases, inc) ~= false end
  return lives[inc]
end
