-- add(sums, field, number): changes a sum. It is absent when 0 and never negative: a wrong sum must not become a debt.
local function add(sums, field, number)
  if redis.call('HINCRBY', sums, field, number) <= 0 then redis.call('HDEL', sums, field) end
end
