-- read: bindings as scripts know them.
-- new(key, name, marks, ...): one. Made with all its fields at once: a table that grows takes
-- longer than a call to Redis.
local function new(key, name, marks, backend, generation, n, h, idle, unproven, move)
  return {
    key = key, name = name, marks = marks, backend = backend, generation = generation, n = n, h = h, idle = idle,
    unproven = unproven, moving = move,
  }
end

local sub = string.sub

-- read(key): the binding of a key as it stands, or nil, and its marks. Whether it still counts is for fetch to say.
local function read(key)
  local name, marks = binding .. key, {}
  local fields = redis.call('HGETALL', name)
  if #fields == 0 then return nil, marks end
  local backend, generation, n, h, idle, unproven, move = nil, 0, 0, {}, nil, nil, nil
  for i = 1, #fields, 2 do
    local field, value = fields[i], fields[i + 1]
    if field == 'be' then backend = value
    elseif field == 'gen' then generation = tonumber(value)
    elseif field == 'n' then n = tonumber(value)
    elseif field == 'idle' then idle = tonumber(value)
    elseif field == 'unproven' then unproven = true
    elseif sub(field, 1, 2) == 'h:' then h[sub(field, 3)] = tonumber(value)
    elseif field == 'pin' then marks.pin = value
    elseif field == 'hold' then marks.hold = tonumber(value)
    elseif field == 'lock' then marks.lock = tonumber(value)
    elseif field == 'locker' then marks.locker = value
    elseif field == 'to' or field == 'hook' then
      move = move or {}
      move[field] = value
    elseif field == 'began' or field == 'deadline' or field == 'not_before' then
      move = move or {}
      move[field] = tonumber(value)
    end -- what a later version may have added is not ours to understand
  end
  if not backend then return nil, marks end
  return new(key, name, marks, backend, generation, n, h, idle, unproven, move), marks
end
