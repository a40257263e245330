-- new(key, name, backend, ...): a binding as scripts know it. Made with all its fields at once: a table that grows takes
-- longer than a call to Redis.
local function new(key, name, backend, generation, n, h, idle, unproven)
  return {
    key = key, name = name, backend = backend, generation = generation, n = n, h = h, idle = idle, unproven = unproven,
  }
end

-- fetch(key, now, remember): the binding of a key, or nil if there is none or it was idle for so long that it is as good
-- as absent. The key's own expiry only collects what nobody asks for: it runs by the server's clock, not by ours.
local function fetch(key, now, remember)
  local name = binding .. key
  local fields = redis.call('HGETALL', name)
  if #fields == 0 then return nil end
  local backend, generation, n, h, idle, unproven = nil, 0, 0, {}, nil, nil
  for i = 1, #fields, 2 do
    local field, value = fields[i], fields[i + 1]
    if field == 'be' then backend = value
    elseif field == 'gen' then generation = tonumber(value)
    elseif field == 'n' then n = tonumber(value)
    elseif field == 'idle' then idle = tonumber(value)
    elseif field == 'unproven' then unproven = true
    elseif string.sub(field, 1, 2) == 'h:' then h[string.sub(field, 3)] = tonumber(value) end
  end
  if n == 0 and idle and idle + remember <= now then
    redis.call('DEL', name)
    return nil
  end
  return new(key, name, backend, generation, n, h, idle, unproven)
end
