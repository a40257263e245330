-- fetch(key, now, remember): the binding of a key, or nil if there is none or it was idle for so long that it is as good
-- as absent. The key's own expiry only collects what nobody asks for: it runs by the server's clock, not by ours.
local function fetch(key, now, remember)
  local fields = redis.call('HGETALL', binding .. key)
  if #fields == 0 then return nil end
  local found = { key = key, n = 0, generation = 0, h = {} }
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == 'be' then found.backend = value
    elseif name == 'gen' then found.generation = tonumber(value)
    elseif name == 'n' then found.n = tonumber(value)
    elseif name == 'idle' then found.idle = tonumber(value)
    elseif name == 'unproven' then found.unproven = true
    elseif string.sub(name, 1, 2) == 'h:' then found.h[string.sub(name, 3)] = tonumber(value) end
  end
  if found.n == 0 and found.idle and found.idle + remember <= now then
    redis.call('DEL', binding .. key)
    return nil
  end
  return found
end
