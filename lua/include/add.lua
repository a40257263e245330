-- add(sums, name, number): changes a sum. It is absent when 0 and never negative: a wrong sum must not become a debt.
local function change(sums, name, number)
  -- As text where that is easy: Redis takes long to format a number.
  local text = number == 1 and '1' or number == -1 and '-1' or number
  if redis.call('HINCRBY', sums, name, text) <= 0 then redis.call('HDEL', sums, name) end
end

local function add(sums, name, number)
  if sums_to_add then
    local changes = sums_to_add[sums] or {}
    sums_to_add[sums] = changes
    changes[name] = (changes[name] or 0) + number
    return
  end
  change(sums, name, number)
  if sums == load then redis.call('SADD', stale, name) end
end
