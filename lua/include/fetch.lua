-- fetch(key, now, remember): the binding of a key, or nil if there is none or it was idle for so long that it is as good
-- as absent. The key's own expiry only collects what nobody asks for: it runs by the server's clock, not by ours.
local function fetch(key, now, remember)
  local name = binding .. key
  local fields = redis.call('HGETALL', name)
  if #fields == 0 then return nil end
  local found = { key = key, name = name, n = 0, generation = 0, h = {} }
  for i = 1, #fields, 2 do
    local field, value = fields[i], fields[i + 1]
    if field == 'be' then found.backend = value
    elseif field == 'gen' then found.generation = tonumber(value)
    elseif field == 'n' then found.n = tonumber(value)
    elseif field == 'idle' then found.idle = tonumber(value)
    elseif field == 'unproven' then found.unproven = true
    elseif string.sub(field, 1, 2) == 'h:' then found.h[string.sub(field, 3)] = tonumber(value) end
  end
  if found.n == 0 and found.idle and found.idle + remember <= now then
    redis.call('DEL', name)
    return nil
  end
  return found
end
