-- spill(): writes what was gathered, each sum once and each index with one call.
local function spill()
  local sums_of, keys_of = sums_to_add, keys_to_list
  sums_to_add, keys_to_list = nil, nil
  for sums, changes in pairs(sums_of) do
    local changed = {}
    for name, number in pairs(changes) do
      if number ~= 0 then
        change(sums, name, number)
        changed[#changed + 1] = name
      end
    end
    if sums == load and #changed > 0 then redis.call('SADD', stale, unpack(changed)) end
  end
  for index, keys in pairs(keys_of) do
    local there, gone = {}, {}
    for key, holds in pairs(keys) do
      local list = holds and there or gone
      list[#list + 1] = key
    end
    if #there > 0 then redis.call('SADD', index, unpack(there)) end
    if #gone > 0 then redis.call('SREM', index, unpack(gone)) end
  end
end
