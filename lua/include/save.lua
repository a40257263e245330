-- save(b): writes the fields of a binding that put(b, field, value) has changed; no value removes one. What is put last
-- counts. Nothing else writes a bound key's fields, and a script saves one binding before it takes up another: rest does,
-- and those without it do so at their end.
local set, puts, gone = { nil, nil, nil, nil, nil, nil, nil, nil }, 0, nil

local function put(b, field, value)
  if value == nil then
    local kept = 0
    for i = 1, puts, 2 do
      if set[i] ~= field then set[kept + 1], set[kept + 2], kept = set[i], set[i + 1], kept + 2 end
    end
    puts = kept
    gone = gone or {}
    gone[#gone + 1] = field
    return
  end
  if type(value) == 'number' then value = digits(value) end
  set[puts + 1], set[puts + 2], puts = field, value, puts + 2
end

-- Removes first: what was put after it was removed is there. n is never removed, so neither is the key with its expiry.
local function save(b)
  if gone then redis.call('HDEL', b.name, unpack(gone)) end
  if puts > 0 then redis.call('HSET', b.name, unpack(set, 1, puts)) end
  gone, puts = nil, 0
end
