-- add(sums, name, number): changes a sum. It is absent when 0 and never negative: a wrong sum must not become a debt.
local function add(sums, name, number)
  local changes = gathered(sums_to_add, sums)
  if changes then
    changes[name] = (changes[name] or 0) + number
    return
  end
  if redis.call('HINCRBY', sums, name, number) <= 0 then redis.call('HDEL', sums, name) end
  if sums == load then redis.call('SADD', stale, name) end
end
