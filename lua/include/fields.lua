-- fields(hash): all of a hash by name.
local function fields(hash)
  local found, list = {}, redis.call('HGETALL', hash)
  for i = 1, #list, 2 do found[list[i]] = list[i + 1] end
  return found
end
