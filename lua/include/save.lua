-- save(b): writes the fields of a binding that put(b, field, value) has changed; no value removes one. Whoever changes a
-- binding ends with rest, which saves it.
local function put(b, field, value)
  if value == nil then
    b.gone = b.gone or {}
    b.gone[#b.gone + 1] = field
    return
  end
  if texts and type(value) == 'number' then
    texts[value] = texts[value] or string.format('%.0f', value)
    value = texts[value]
  end
  local at = b.puts
  b.set[at + 1], b.set[at + 2], b.puts = field, value, at + 2
end

-- Removes first: what a script sets at last is what counts. n is never removed, so neither is the key with its expiry.
local function save(b)
  if b.gone then redis.call('HDEL', b.name, unpack(b.gone)) end
  if b.puts > 0 then redis.call('HSET', b.name, unpack(b.set, 1, b.puts)) end
  b.gone, b.puts = nil, 0
end
