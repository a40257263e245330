-- enlist(inc, key, holds): the index of what inc holds has the key, or has it not.
local function enlist(inc, key, holds)
  local index = held .. inc
  if keys_to_list then
    local keys = keys_to_list[index] or {}
    keys_to_list[index] = keys
    keys[key] = holds
    return
  end
  redis.call(holds and 'SADD' or 'SREM', index, key)
end
