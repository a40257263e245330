-- new(key, name, backend, ...): a binding as scripts know it. Made with all its fields at once: a table that grows takes
-- longer than a call to Redis.
local function new(key, name, marks, backend, generation, n, h, idle, unproven, move)
  return {
    key = key, name = name, marks = marks, backend = backend, generation = generation, n = n, h = h, idle = idle,
    unproven = unproven, moving = move,
  }
end

-- fetch(key, now, remember): the binding of a key, or nil if there is none or it was idle for so long that it is as good
-- as absent; then its marks, without a hold or lock that is over. The key's own expiry only collects what nobody asks for: it runs
-- by the server's clock, not by ours.
local function fetch(key, now, remember)
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
    elseif string.sub(field, 1, 2) == 'h:' then h[string.sub(field, 3)] = tonumber(value)
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
  if marks.hold and marks.hold > 0 and marks.hold <= now then
    marks.hold = nil
    redis.call('HDEL', name, 'hold') -- with it goes a key that has nothing else, and its time to live
  end
  if marks.lock and marks.lock <= now then
    marks.lock, marks.locker = nil, nil
    redis.call('HDEL', name, 'lock', 'locker')
  end
  if not backend then return nil, marks end
  local b = new(key, name, marks, backend, generation, n, h, idle, unproven, move)
  if n == 0 and not move and idle and idle + remember <= now then
    unbind(b, now, remember)
    return nil, marks
  end
  return b, marks
end
