-- enlist(inc, key, holds): the index of what inc holds has the key, or has it not.
local function enlist(inc, key, holds)
  local keys = gathered(index_to_write, held .. inc)
  if keys then
    keys[key] = holds
  else
    redis.call(holds and 'SADD' or 'SREM', held .. inc, key)
  end
end
