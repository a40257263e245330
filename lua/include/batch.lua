-- batch: for a script with a page of keys. Between gather() and spill() the changes of sums and indexes are kept, and are
-- then written with a few calls instead of a few for each key.
local sums_to_add, index_to_write

local function gather()
  sums_to_add, index_to_write = {}, {}
end

-- In add and enlist: the changes that are gathered for a sum or an index; nil if each is written at once.
local function gathered(all, of)
  if not all then return nil end
  all[of] = all[of] or {}
  return all[of]
end

local function spill_sums(sums, changes)
  local names, set, gone = {}, {}, {}
  for name, number in pairs(changes) do
    if number ~= 0 then names[#names + 1] = name end
  end
  if #names == 0 then return end
  for i, before in ipairs(redis.call('HMGET', sums, unpack(names))) do
    local sum = (before or 0) + changes[names[i]]
    if sum > 0 then
      set[#set + 1] = names[i]
      set[#set + 1] = sum
    else
      gone[#gone + 1] = names[i]
    end
  end
  if #set > 0 then redis.call('HSET', sums, unpack(set)) end
  if #gone > 0 then redis.call('HDEL', sums, unpack(gone)) end
  if sums == load then redis.call('SADD', stale, unpack(names)) end
end

local function spill()
  for sums, changes in pairs(sums_to_add) do spill_sums(sums, changes) end
  for index, keys in pairs(index_to_write) do
    local there, gone = {}, {}
    for key, holds in pairs(keys) do
      local list = holds and there or gone
      list[#list + 1] = key
    end
    if #there > 0 then redis.call('SADD', index, unpack(there)) end
    if #gone > 0 then redis.call('SREM', index, unpack(gone)) end
  end
  sums_to_add, index_to_write = nil, nil
end
