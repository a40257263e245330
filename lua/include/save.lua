-- save(b): writes the fields of a binding that put(b, field, value) has changed; no value removes one. drop(b) deletes it.
-- Whoever changes a binding ends with rest, which does either, before it takes up another.
local set, puts, gone = { nil, nil, nil, nil, nil, nil, nil, nil }, 0, nil

local function put(b, field, value)
  if value == nil then
    gone = gone or {}
    gone[#gone + 1] = field
    return
  end
  if texts and type(value) == 'number' then
    texts[value] = texts[value] or string.format('%.0f', value)
    value = texts[value]
  end
  set[puts + 1], set[puts + 2], puts = field, value, puts + 2
end

-- Removes first: what a script sets at last is what counts. n is never removed, so neither is the key with its expiry.
local function save(b)
  if gone then redis.call('HDEL', b.name, unpack(gone)) end
  if puts > 0 then redis.call('HSET', b.name, unpack(set, 1, puts)) end
  gone, puts = nil, 0
end

-- drop(b): deletes it, with what was not saved.
local function drop(b)
  redis.call('DEL', b.name)
  gone, puts = nil, 0
end
