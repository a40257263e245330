-- save(b): writes the fields of a binding that put(b, field, value) has changed; no value removes one. Whoever changes a
-- binding ends with rest, which saves it.
local texts = {} -- of small numbers, which Redis would format anew for each call

local function put(b, field, value)
  if value == nil then
    b.gone = b.gone or {}
    b.gone[#b.gone + 1] = field
    return
  end
  if type(value) == 'number' then
    texts[value] = texts[value] or string.format('%.0f', value)
    value = texts[value]
  end
  local set = b.set or {}
  b.set = set
  set[#set + 1] = field
  set[#set + 1] = value
end

-- Removes first: what a script sets at last is what counts. n is never removed, so neither is the key with its expiry.
local function save(b)
  if b.gone then redis.call('HDEL', b.name, unpack(b.gone)) end
  if b.set then redis.call('HSET', b.name, unpack(b.set)) end
  b.gone, b.set = nil, nil
end
